package linux_test

import (
	"os"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

// BenchmarkFirstList goes from a closed recording to its processes, with their
// arguments. peak-MB is the memory that the program has from the system.
func BenchmarkFirstList(b *testing.B) {
	f, err := os.Open(recording)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	debug.FreeOSMemory()
	b.ReportAllocs()
	for b.Loop() {
		s, err := vmi.OpenSnapshot(f, info.Size())
		if err != nil {
			b.Fatal(err)
		}
		mem := vmi.NewMemory(s, nil)
		k, err := linux.Open(mem, s.Registers())
		if err != nil {
			b.Fatal(err)
		}
		for p, err := range k.Processes() {
			if err != nil {
				b.Fatal(err)
			}
			if _, err := p.Task.Args(); err != nil {
				b.Fatal(err)
			}
		}
		if err := mem.Close(); err != nil {
			b.Fatal(err)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.Sys-m.HeapReleased)/1e6, "peak-MB")
}

func BenchmarkProcesses(b *testing.B) {
	k := openSnapshot(b, recording)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n = 0
		for _, err := range k.Processes() {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	b.ReportMetric(float64(n), "processes")
}

// BenchmarkWarmRead reads 8 bytes of the kernel.
func BenchmarkWarmRead(b *testing.B) {
	k := openSnapshot(b, recording)
	at, err := k.Symbols().Lookup("init_task")
	if err != nil {
		b.Fatal(err)
	}
	s := k.AddressSpace()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Uint64(at); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSymbolByName(b *testing.B) {
	syms := openSnapshot(b, recording).Symbols()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := syms.Lookup("do_syscall_64"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSymbolByAddress(b *testing.B) {
	syms := openSnapshot(b, recording).Symbols()
	at, err := syms.Lookup("do_syscall_64")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := syms.At(at + 5); !ok {
			b.Fatal("no symbol")
		}
	}
}
