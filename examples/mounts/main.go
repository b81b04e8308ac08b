// Mounts lists what is mounted in a Linux guest, without anything running in it.
//
//	mounts -domain guest -pid 1
package main

import (
	"flag"
	"strings"

	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi/linux"
)

func main() { tool().Main() }

func tool() view.Tool {
	pid := 1
	return view.Tool{
		Name: "mounts", About: "Lists what is mounted in a Linux guest.",
		Flags: func(f *flag.FlagSet) {
			f.IntVar(&pid, "pid", pid, "as the process with this `id` sees it")
		},
		Run: func(g *view.Guest) error {
			t, err := g.Kernel.TaskByPID(int32(pid))
			if err != nil {
				return err
			}
			return view.List(g, "ID PARENT DEVICE ROOT MOUNTED-ON TYPE SOURCE FLAGS", t.Mounts(), func(m linux.Mount) []any {
				return []any{m.ID, m.Parent, m.Device, m.Root, m.Point, m.Type, m.Source, flags(m)}
			})
		},
	}
}

func flags(m linux.Mount) string {
	all := []string{"rw"}
	if m.ReadOnly {
		all[0] = "ro"
	}
	for _, f := range []struct {
		set  bool
		name string
	}{{m.NoSuid, "nosuid"}, {m.NoDev, "nodev"}, {m.NoExec, "noexec"}} {
		if f.set {
			all = append(all, f.name)
		}
	}
	return strings.Join(all, ",")
}
