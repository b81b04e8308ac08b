// Ps lists the processes of a Linux guest, without anything running in it.
//
//	ps -domain guest
//	ps -image testdata/linux-6.1.rec
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

func main() { tool().Main() }

func tool() view.Tool {
	var threads, env bool
	return view.Tool{
		Name: "ps", About: "Lists the processes of a Linux guest as a tree.",
		Flags: func(f *flag.FlagSet) {
			f.BoolVar(&threads, "T", false, "list threads")
			f.BoolVar(&env, "e", false, "show the environment as well")
		},
		Run: func(g *view.Guest) error {
			all, err := read(g.Kernel, threads, env)
			items := func(yield func(process, error) bool) {
				for p := range tree(all) {
					if !yield(p, nil) {
						return
					}
				}
				if err != nil {
					yield(process{}, err)
				}
			}
			return view.List(g, "UID PID TID PPID PGID SID S START COMMAND", items, func(p process) []any {
				return []any{p.EUID, p.TGID, p.PID, p.Parent, p.Group, p.Session, p.State, p.Start.Round(10 * time.Millisecond), p.command()}
			})
		},
	}
}

// process is a process with what it was started with.
type process struct {
	linux.Process
	Args []string
	Env  []string `json:",omitempty"`
	// Hidden says that the kernel's list of processes lacks it.
	Hidden bool `json:",omitempty"`
	// Unreadable says why there are no arguments.
	Unreadable string `json:",omitempty"`

	depth int
}

// read returns what could be read before an error.
func read(k *linux.Kernel, threads, env bool) (all []process, err error) {
	list := k.Processes()
	if threads {
		list = k.ThreadInfos()
	}
	for info, err := range list {
		if err != nil {
			return all, err
		}
		p := process{Process: info}
		if err := p.readText(env); err != nil {
			return all, err
		}
		all = append(all, p)
	}
	for t, err := range k.HiddenTasks() {
		if err != nil {
			return all, err
		}
		p := process{Hidden: true}
		if p.Process, err = t.Info(); err != nil {
			return all, err
		}
		if err := p.readText(env); err != nil {
			return all, err
		}
		all = append(all, p)
	}
	return all, nil
}

// readText reads what is in the process's own memory, which the guest may have
// swapped out.
func (p *process) readText(env bool) (err error) {
	if p.Args, err = p.Task.Args(); err == nil && env {
		p.Env, err = p.Task.Env()
	}
	if errors.Is(err, vmi.ErrNotPresent) || errors.Is(err, vmi.ErrNotMapped) {
		p.Unreadable = err.Error()
		return nil
	}
	return err
}

// tree yields each process below its parent.
func tree(all []process) iter.Seq[process] {
	children := make(map[int32][]process)
	known := make(map[int32]bool)
	for _, p := range all {
		known[p.PID] = true
	}
	for _, p := range all {
		parent := p.Parent
		if p.PID != p.TGID {
			parent = p.TGID
		}
		if !known[parent] || parent == p.PID {
			parent = -1
		}
		children[parent] = append(children[parent], p)
	}
	return func(yield func(process) bool) {
		var below func(parent int32, depth int) bool
		below = func(parent int32, depth int) bool {
			list := children[parent]
			delete(children, parent) // the guest may say that it goes in circles
			slices.SortFunc(list, func(a, b process) int { return cmp.Compare(a.PID, b.PID) })
			for _, p := range list {
				p.depth = depth
				if !yield(p) || !below(p.PID, depth+1) {
					return false
				}
			}
			return true
		}
		if !below(-1, 0) {
			return
		}
		for len(children) > 0 { // circles
			if !below(slices.Min(slices.Collect(maps.Keys(children))), 0) {
				return
			}
		}
	}
}

// maxIndent bounds what a deep tree takes.
const maxIndent = 30

func (p process) command() string {
	s := "[" + p.Comm + "]"
	if len(p.Args) > 0 {
		s = strings.Join(p.Args, " ")
	}
	if p.PID != p.TGID {
		s = fmt.Sprintf("{%s} %s", p.Comm, s)
	}
	if len(p.Env) > 0 {
		s += " " + strings.Join(p.Env, " ")
	}
	if p.Hidden {
		s += " (hidden)"
	}
	return strings.Repeat("  ", min(p.depth, maxIndent)) + s
}
