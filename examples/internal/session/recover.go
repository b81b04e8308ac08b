package session

import (
	"time"

	"github.com/govmi/govmi/breakpoint/journal"
	"github.com/govmi/govmi/xen"
)

// patience is how long the kernel may take to release what a killed program held.
const patience = time.Second

// Recover is journal.Recover for a domain whose monitor may have been killed just
// now: the kernel takes a moment to release what it held.
func Recover(d *xen.Domain, o *journal.RecoverOptions) (*journal.Report, error) {
	for end := time.Now().Add(patience); ; {
		r, err := journal.Recover(d, o)
		if !r.Alive || time.Now().After(end) {
			return r, err
		}
		time.Sleep(patience / 20)
	}
}
