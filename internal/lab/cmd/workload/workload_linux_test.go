package main

import (
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKinds(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			call, err := k()
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := call(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestRepeatMakesExactlyN(t *testing.T) {
	if cpus, err := allowedCPUs(); err != nil || len(cpus) == 0 {
		t.Fatal(cpus, err)
	}
	for _, n := range []int{0, 1, 49, 50, 51, 1000} {
		made := 0
		if err := repeat(func() error { made++; return nil }, n, nil, 0); err != nil || made != n {
			t.Errorf("n %d: %d calls, %v", n, made, err)
		}
	}
	want := errors.New("stop")
	if err := repeat(func() error { return want }, 3, nil, 0); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestInstructions(t *testing.T) {
	if err := runCPUID([]string{"-n", "5"}); err != nil {
		t.Error(err)
	}
	if v := vendor(); len(v) != 12 || v != vendor() {
		t.Errorf("vendor %q", v)
	}
	if err := singleStep([]string{"-n", "20"}); err != nil {
		t.Error(err)
	}
}

func TestStubs(t *testing.T) {
	for _, sse := range []bool{false, true} {
		for i := range maxStubs {
			if code, _ := stubCode(i, sse); len(code) > stubStride-8 {
				t.Errorf("function %d has %d bytes", i, len(code))
			}
		}
	}
	for _, args := range [][]string{{"-n", "3000", "-whole"}, {"-n", "100", "-stubs", "1"}, {"-n", "2000", "-sse"}} {
		if err := stubs(args); err != nil {
			t.Error(err)
		}
	}
}

func TestWaitFor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "go")
	waited := make(chan error, 1)
	go func() { waited <- waitFor(file) }()
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

func TestHashSymbols(t *testing.T) {
	sum := func(s string) uint64 {
		h := fnv.New64a()
		h.Write([]byte(s))
		return h.Sum64()
	}
	got, err := hashSymbols("ffffffff81000000 T _stext\nffffffffc0000000 t mod_init\t[loop]\n0000000000000000 A fixed_percpu_data\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []uint64{sum("ffffffff81000000 _stext"), sum("0000000000000000 fixed_percpu_data")}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := hashSymbols("nonsense\n"); err == nil {
		t.Error("nonsense is taken")
	}
}

func TestUnknownCommand(t *testing.T) {
	for _, args := range [][]string{nil, {"nonsense"}, {"calls", "-kind", "nonsense"}, {"calls", "-n", "-1"}, {"rounds"}, {"busy", "-kinds", "nonsense"}} {
		if run(args) == nil {
			t.Errorf("%q succeeds", args)
		}
	}
}
