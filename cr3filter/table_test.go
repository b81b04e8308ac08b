package cr3filter

import (
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A table is what a map is, through growth, shrinking and removal.
func TestTable(t *testing.T) {
	tab, want := newTable(), map[uint64]bool{}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 200_000 {
		number := uint64(r.IntN(300))
		if i/20_000%2 == 1 {
			number = 1<<62 - 1 - number // the first ones go slowly
		}
		switch r.IntN(5) {
		case 0, 1:
			flag := r.IntN(2) == 0
			tab.put(number, flag)
			want[number] = flag
		default:
			tab.remove(number)
			delete(want, number)
		}
		flag, in := tab.get(number)
		if wantFlag, wantIn := want[number]; flag != wantFlag || in != wantIn {
			t.Fatalf("step %d, %#x: %v, %v; want %v, %v", i, number, flag, in, wantFlag, wantIn)
		}
		if tab.n != len(want) || tab.taken < tab.n || 4*tab.taken > 3*len(*tab.slots.Load()) {
			t.Fatalf("step %d: %d numbers in %d of %d slots, want %d", i, tab.n, tab.taken, len(*tab.slots.Load()), len(want))
		}
	}
	if diff := cmp.Diff(want, maps.Collect(tab.all())); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if n := len(*tab.slots.Load()); n > 2048 {
		t.Errorf("%d slots for %d numbers", n, len(want))
	}
}

// Readers see what stays, whatever is changed beside it.
func TestTableReaders(t *testing.T) {
	tab := newTable()
	const stays = 7
	tab.put(stays, true)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if flag, in := tab.get(stays); !flag || !in {
					t.Error("a number that stays is missing")
					return
				}
				if flag, in := tab.get(1000); flag || in {
					t.Error("a number that never was")
					return
				}
				for number, flag := range tab.all() {
					if flag != (number == stays) {
						t.Errorf("number %d with flag %v", number, flag)
						return
					}
				}
			}
		})
	}
	for round := range 200 {
		for i := range uint64(100) {
			tab.put(8+i, false)
		}
		for i := range uint64(100) {
			tab.remove(8 + (i*37+uint64(round))%100)
		}
	}
	close(done)
	wg.Wait()
}

func BenchmarkTableGet(b *testing.B) {
	tab := newTable()
	for i := range uint64(1000) {
		tab.put(i*4096, false)
	}
	b.ReportAllocs()
	for b.Loop() {
		tab.get(77 * 4096)
	}
}

// A change costs the same in a small set and in a large one.
func BenchmarkTableChange(b *testing.B) {
	for _, n := range []uint64{16, maxProcesses} {
		b.Run(map[bool]string{true: "small", false: "large"}[n == 16], func(b *testing.B) {
			tab := newTable()
			for i := range n {
				tab.put(i, false)
			}
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				tab.put(n+i, false)
				tab.remove(i)
			}
		})
	}
}
