package vmi

import (
	"fmt"

	"github.com/govmi/govmi/xen"
)

// PhysAddr is a guest-physical address in bytes.
type PhysAddr uint64

// VirtAddr is a guest-virtual (linear) address in bytes.
type VirtAddr uint64

// CR3 is the value of a page-table root register as the guest loads it: the
// root's physical address with the PCID in bits 0-11 and, on a write, the
// no-flush flag in bit 63.
type CR3 uint64

// GFN returns the frame that holds a.
func (a PhysAddr) GFN() xen.GFN { return xen.GFN(a >> xen.PageShift) }

// Offset returns a's offset within its frame.
func (a PhysAddr) Offset() int { return int(a & (xen.PageSize - 1)) }

// Root returns the physical address of the top-level page table: the value
// without PCID and flags.
func (c CR3) Root() PhysAddr { return PhysAddr(c &^ (0xfff | 0xfff<<52)) }

func (a PhysAddr) String() string { return fmt.Sprintf("%#x", uint64(a)) }
func (a VirtAddr) String() string { return fmt.Sprintf("%#x", uint64(a)) }
func (c CR3) String() string      { return fmt.Sprintf("%#x", uint64(c)) }
