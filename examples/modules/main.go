// Modules lists the kernel modules of a Linux guest, without anything running in
// it.
//
//	modules -domain guest
package main

import (
	"strings"

	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi/linux"
)

func main() { tool().Main() }

func tool() view.Tool {
	return view.Tool{
		Name: "modules", About: "Lists the kernel modules of a Linux guest.",
		Run: func(g *view.Guest) error {
			return view.List(g, "MODULE SIZE STATE ADDRESS REFS USED-BY", g.Kernel.Modules(), func(m linux.Module) []any {
				return []any{m.Name, m.Size, m.State, m.Base, m.Refs, strings.Join(m.UsedBy, ",")}
			})
		},
	}
}
