package main

import (
	"errors"
	"fmt"

	"github.com/govmi/govmi/cr3filter"
	"github.com/govmi/govmi/internal/lab/table1"
	"github.com/govmi/govmi/xen"
)

// filtered is a monitor with a filter in Xen, whose counts it adds.
type filtered struct{ *watch }

func (f *filtered) Counts() (table1.Counts, error) {
	c, err := f.watch.Counts()
	info, ferr := f.mon.CR3Filter()
	exits := info.Forwarded + info.Dropped
	c.CR3Exits, c.CR3Dropped = &exits, &info.Dropped
	return c, errors.Join(err, ferr)
}

// strangers are roots that no process of the guest has: beyond its memory.
func strangers(n int) []uint64 {
	roots := make([]uint64, n)
	for i := range roots {
		roots[i] = 1<<36 + uint64(i)<<13
	}
	return roots
}

// attachDropping has Xen drop every CR3 write after it looked for it among so
// many entries.
func attachDropping(entries int) func(t *target) (probe, error) {
	return func(t *target) (_ probe, err error) {
		p, err := attachCR3(t, func(mon *xen.Monitor) error {
			if err := mon.SetCR3Filter(xen.CR3FilterOptions{Mode: xen.CR3FilterMatch, Mask: cr3filter.Linux(true).Ignore}); err != nil {
				return err
			}
			for _, root := range strangers(entries) {
				if err := mon.AddCR3(root); err != nil {
					return fmt.Errorf("root %#x: %w", root, err)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		return &filtered{p}, nil
	}
}
