package xentest

import (
	"sync"

	"github.com/govmi/govmi/internal/mortal"
	"github.com/govmi/govmi/xen"
)

// Dying returns options for [xen.Open] of a program that is killed at its n'th
// call, counted from 1: before the call has its effect, or with after set when it
// has had it. The goroutine that makes the call stands still from then on, and so
// does any other at its next one, so that nothing of the program runs that would
// not after kill -9; run it in a goroutine of its own. dead is closed at that
// moment: [Xen.KillProcesses] does the rest.
func (x *Xen) Dying(n int, after bool) (opts *xen.Options, dead <-chan struct{}) {
	ch := make(chan struct{})
	var once sync.Once
	d := mortal.New(x.fake, func() {
		once.Do(func() { close(ch) })
		select {}
	})
	d.DieAt(n, after)
	return &xen.Options{Devices: d}, ch
}
