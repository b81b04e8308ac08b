//go:build lab

package linux_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/govmi/govmi/internal/lab/labtest"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

// TestLabProcRewritten reads a guest whose list of processes is written over all the
// while, in circles and to nowhere: each list ends, with an error of the guest's memory
// or without. When the list is what it was, so is what is read.
func TestLabProcRewritten(t *testing.T) {
	g := labtest.SharedGuest(t, labtest.Ordinary())
	d, mem := openDomain(t, g.DomID())
	if err := d.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Unpause(); err != nil {
			t.Error(err)
		}
		g.MustExec(t.Context(), "ps >/dev/null")
	}()
	k, err := linux.Open(mem, registers(t, d))
	if err != nil {
		t.Fatal(err)
	}
	next, err := k.Field("task_struct.tasks.next")
	if err != nil {
		t.Fatal(err)
	}
	pids := func() (all []int32, lists []vmi.VirtAddr) {
		t.Helper()
		for p, err := range k.Processes() {
			if err != nil {
				t.Fatal(err)
			}
			all, lists = append(all, p.TGID), append(lists, p.Task.Addr+vmi.VirtAddr(next.Offset))
		}
		return all, lists
	}
	want, lists := pids()
	before := make([]uint64, len(lists))
	for i, at := range lists {
		if before[i], err = k.AddressSpace().Uint64(at); err != nil {
			t.Fatal(err)
		}
	}
	write := func(i int, v uint64) {
		if _, err := k.AddressSpace().Write(lists[i], binary.LittleEndian.AppendUint64(nil, v)); err != nil {
			t.Error(err)
		}
	}

	const rounds = 300
	var (
		wg     sync.WaitGroup
		stop   atomic.Bool
		writes int
	)
	wg.Go(func() {
		r := rand.New(rand.NewPCG(1, 2))
		for ; !stop.Load(); writes++ {
			i, j := r.IntN(len(lists)), r.IntN(len(lists))
			write(i, []uint64{
				uint64(lists[j]), uint64(lists[i]), uint64(lists[j]) + 8*r.Uint64N(64), r.Uint64(), 0, before[i], before[i],
			}[r.IntN(7)])
		}
		for i, v := range before {
			write(i, v)
		}
	})
	whole, broken := 0, 0
	for range rounds {
		n, last := 0, error(nil)
		for _, err := range k.Processes() {
			const enough = 1 << 20
			if n, last = n+1, err; n > enough {
				t.Error("a list without an end")
				break
			}
		}
		switch {
		case last == nil:
			whole++
		case errors.Is(last, linux.ErrCorrupt), errors.Is(last, vmi.ErrNotPresent), errors.Is(last, vmi.ErrNotMapped):
			broken++
		default:
			t.Errorf("%d processes, then %v", n, last)
		}
		for _, err := range k.Check() {
			if err != nil {
				break
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d lists of %d processes beside %d writes: %d ended with an error, %d without", rounds, len(want), writes, broken, whole)
	if broken == 0 || writes < len(lists) {
		t.Error("nobody noticed the writes")
	}
	if now, _ := pids(); !slices.Equal(now, want) {
		t.Errorf("afterwards there are %v, before %v", now, want)
	}
}
