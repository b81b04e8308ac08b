package linux

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
)

func TestField(t *testing.T) {
	g := newTestGuest(t, guestOptions{})
	k := g.open(t)
	for _, want := range []Field{
		{Path: "task_struct.pid", Offset: oPID, Size: 4},
		{Path: "task_struct.comm", Offset: oComm, Size: 16},
		{Path: "task_struct.tasks.prev", Offset: oTasks + 8, Size: 8},
		{Path: "mm_struct.pgd", Offset: oPGD, Size: 8},
		{Path: "task_struct.se", Offset: oSE, Size: 0x18},
		{Path: "task_struct.se.deep", Offset: oSE + 0x10, Size: 1},
		{Path: "task_struct.se.high", Offset: oSE + 0x14, Size: 4},
		{Path: "task_struct.se.on_rq", Offset: oSE + 8, Size: 4, BitOffset: 3, BitSize: 2},
	} {
		got, err := k.Field(want.Path)
		if err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	for _, path := range []string{
		"", ".", "task_struct", "task_struct.", "task_struct.nobody", "nobody.pid", "pid_t.x",
		"task_struct.pid.x", "task_struct.mm.pgd", "task_struct..pid", "int.x",
	} {
		if f, err := k.Field(path); !errors.Is(err, ErrNoField) {
			t.Errorf("Field(%q) = %+v, %v", path, f, err)
		}
	}
}

func TestFieldUint(t *testing.T) {
	g := newTestGuest(t, guestOptions{})
	k := g.open(t)
	g.Write(vmi.PhysAddr(g.proc1-directMap)+oSE, []byte{1, 2, 3, 4, 5, 6, 7, 8, 0x17, 0, 0, 0, 0, 0, 0, 0, 0x81, 0x82, 0x83, 0x84})
	for path, want := range map[string]uint64{
		"task_struct.se.load":  0x0807060504030201,
		"task_struct.se.deep":  0x81,
		"task_struct.se.low":   0x84838281,
		"task_struct.se.on_rq": 2,
	} {
		f, err := k.Field(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.Uint(k.AddressSpace(), g.proc1); err != nil || got != want {
			t.Errorf("%s = %#x, %v, want %#x", path, got, err, want)
		}
	}
	comm, err := k.Field("task_struct.comm")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := comm.Uint(k.AddressSpace(), g.proc1); err == nil {
		t.Errorf("an array was read as the number %d", v)
	}
	if _, err := (Field{Size: 8}).Pointer(k.AddressSpace(), 0); !errors.Is(err, vmi.ErrNotPresent) {
		t.Errorf("Pointer at 0: %v", err)
	}
}

// TestFieldInTypesThatExplode looks for a member in anonymous structures that
// contain each other 64^16 times over.
func TestFieldInTypesThatExplode(t *testing.T) {
	inner := &btf.Struct{Size: 0}
	for range maxNesting {
		outer := &btf.Struct{}
		for range 64 {
			outer.Members = append(outer.Members, btf.Member{Type: inner})
		}
		inner = outer
	}
	inner.Name = "task_struct"
	b, err := btf.NewBuilder([]btf.Type{inner}, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := b.Spec()
	if err != nil {
		t.Fatal(err)
	}
	k := &Kernel{types: spec}
	if f, err := k.Field("task_struct.pid"); !errors.Is(err, ErrNoField) {
		t.Errorf("Field = %+v, %v", f, err)
	}
}

// FuzzTypes changes the kernel's BTF and resolves members in what is left.
func FuzzTypes(f *testing.F) {
	b, err := btf.NewBuilder(testTypes(), nil)
	if err != nil {
		f.Fatal(err)
	}
	good, err := b.Marshal(nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), uint32(8), []byte{1})
	f.Add(uint32(100), uint32(200), []byte{0xff, 1, 0, 7})
	f.Fuzz(func(t *testing.T, at, at2 uint32, patch []byte) {
		p := append([]byte(nil), good...)
		for _, at := range []uint32{at, at2} {
			for i, b := range patch {
				p[(int(at)+i)%len(p)] ^= b
			}
		}
		spec, err := parseBTF(p, nil)
		if err != nil {
			return
		}
		k := &Kernel{types: spec}
		for _, path := range []string{"task_struct.pid", "task_struct.se.high", "task_struct.se.on_rq", "mm_struct.pgd", "pcpu_hot.current_task", "list_head.next"} {
			fl, err := k.Field(path)
			if err == nil && int(fl.BitOffset)+int(fl.BitSize) > 64 {
				t.Fatalf("%+v", fl)
			}
		}
	})
}
