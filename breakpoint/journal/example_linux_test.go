package journal_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/govmi/govmi/breakpoint/journal"
	"github.com/govmi/govmi/xen"
	"github.com/govmi/govmi/xen/xentest"
)

// A monitor patches a byte of the guest's and is killed.
func ExampleRecover() {
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "guest")

	x := xentest.New(nil) // or, in dom0, xen.Open(nil)
	g := x.AddDomain(&xentest.DomainConfig{ID: 1, Name: "guest"})
	g.SetPage(3, []byte{0x55})
	guest := func() *xen.Domain {
		h, err := xen.Open(x.Options())
		if err != nil {
			log.Fatal(err)
		}
		d, err := h.LookupDomain("guest")
		if err != nil {
			log.Fatal(err)
		}
		return d
	}

	dom := guest()
	if _, err := dom.OpenMonitor(nil); err != nil {
		log.Fatal(err)
	}
	j, err := journal.Open(dom, &journal.Options{Path: path})
	if err != nil {
		log.Fatal(err)
	}
	// As a breakpoint.Engine on j.Domain() does.
	if err := j.Domain().Patching(3, 0, []byte{0x55}); err != nil {
		log.Fatal(err)
	}
	g.Page(3)[0] = 0xcc
	x.KillProcesses()

	dom = guest()
	_, err = dom.OpenMonitor(nil)
	fmt.Println("the next monitor is refused:", errors.Is(err, xen.ErrBusy))
	r, err := journal.Recover(dom, &journal.RecoverOptions{Path: path})
	fmt.Printf("%v put back, %v; the byte is %#x\n", r.Restored, err, g.Page(3)[0])
	// Output:
	// the next monitor is refused: true
	// [0x3+0x0] put back, <nil>; the byte is 0x55
}
