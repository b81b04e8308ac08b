// Memmap prints the memory map of a process in a Linux guest, or of its kernel,
// without anything running in it.
//
//	memmap -domain guest -pid 214
//	memmap -domain guest
package main

import (
	"flag"
	"iter"

	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

func main() { tool().Main() }

func tool() view.Tool {
	var pid int
	return view.Tool{
		Name: "memmap", About: "Prints the memory map of a process in a Linux guest, or what the kernel's page tables map.",
		Flags: func(f *flag.FlagSet) {
			f.IntVar(&pid, "pid", 0, "of the process with this `id`")
		},
		Run: func(g *view.Guest) error {
			if pid == 0 {
				return view.List(g, "START END PERM BYTES SYMBOL", kernel(g.Kernel), func(r pages) []any {
					return []any{r.Start, r.End, r.Perm, uint64(r.End - r.Start), r.Symbol}
				})
			}
			t, err := g.Kernel.TaskByPID(int32(pid))
			if err != nil {
				return err
			}
			return view.List(g, "START END PERM OFFSET DEVICE INODE NAME", t.Maps(), func(m linux.Map) []any {
				return []any{m.Start, m.End, m.Perm(), m.Offset, m.Device, m.Inode, m.Name}
			})
		},
	}
}

// pages are neighbours in the kernel's half with the same permissions.
type pages struct {
	Start, End vmi.VirtAddr
	Perm       string
	// Symbol is the one at Start, of the kernel's image.
	Symbol string `json:",omitempty"`
}

func kernel(k *linux.Kernel) iter.Seq2[pages, error] {
	return func(yield func(pages, error) bool) {
		var run pages
		flush := func() bool {
			if run.End == run.Start {
				return true
			}
			if sym, off, ok := k.Symbols().At(run.Start); ok && off == 0 {
				run.Symbol = sym.Name
			}
			return yield(run, nil)
		}
		for m, err := range k.AddressSpace().Mappings(1<<63, ^vmi.VirtAddr(0)) {
			if err != nil {
				if !flush() || !yield(pages{}, err) {
					return
				}
				run = pages{}
				continue
			}
			if m.Virt != run.End || perm(m) != run.Perm {
				if !flush() {
					return
				}
				run = pages{Start: m.Virt, Perm: perm(m)}
			}
			run.End = m.Virt + vmi.VirtAddr(m.Size)
		}
		flush()
	}
}

func perm(m vmi.Mapping) string {
	b := []byte("r-xs")
	if m.Writable {
		b[1] = 'w'
	}
	if m.NoExec {
		b[2] = '-'
	}
	if m.User {
		b[3] = 'u'
	}
	return string(b)
}
