package linux

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/govmi/govmi/vmi"
)

const dBTFModules = 0x5000

func moduleBTFTypes() []btf.Type {
	i32 := &btf.Int{Name: "int", Size: 4}
	ptr := &btf.Pointer{Target: &btf.Void{}}
	list := &btf.Struct{Size: 16, Members: []btf.Member{{Name: "next", Type: ptr}, {Name: "prev", Type: ptr, Offset: 64}}}
	return append(testTypes(),
		&btf.Struct{Name: "btf_module", Size: 32, Members: []btf.Member{{Name: "list", Type: list}, {Name: "module", Type: ptr, Offset: 128}, {Name: "btf", Type: ptr, Offset: 192}}},
		&btf.Struct{Name: "btf", Size: 16, Members: []btf.Member{{Name: "data", Type: ptr}, {Name: "data_size", Type: i32, Offset: 64}}},
	)
}

// splitBTF is a module's BTF on top of a kernel's: a structure with a list_head of
// the kernel's at offset 24.
func splitBTF(t testing.TB, kernel []byte) []byte {
	t.Helper()
	spec, err := parseBTF(kernel, nil)
	if err != nil {
		t.Fatal(err)
	}
	var list *btf.Struct
	if err := spec.TypeByName("list_head", &list); err != nil {
		t.Fatal(err)
	}
	id, err := spec.TypeID(list)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	names := le.Uint32(kernel[20:]) // the length of the kernel's strings (struct btf_header)
	const structKind = 4
	var types []byte
	for _, w := range []uint32{names, structKind<<24 | 1, 40, names + 8, uint32(id), 24 * 8} {
		types = le.AppendUint32(types, w)
	}
	strings := "private\x00links\x00"
	b := []byte{0x9f, 0xeb, 1, 0} // magic number, version 1
	for _, w := range []uint32{24, 0, uint32(len(types)), uint32(len(types)), uint32(len(strings))} {
		b = le.AppendUint32(b, w)
	}
	return append(append(b, types...), strings...)
}

func TestModuleTypes(t *testing.T) {
	const module = directMap + 0x123400
	g := newTestGuest(t, guestOptions{types: moduleBTFTypes(), more: []Symbol{{kernelData + dBTFModules, "btf_modules", 'd'}}})
	head := kernelData + vmi.VirtAddr(dBTFModules)
	g.put(head, head)
	g.put(head+8, head)
	k := g.open(t)
	m := Module{Name: "m", Addr: module}
	if _, err := k.ModuleTypes(m); !errors.Is(err, ErrNoBTF) {
		t.Errorf("of a module without: %v", err)
	}
	data := splitBTF(t, encodeTypes(t, g.o.types))
	one, types, raw := virt(g.alloc(32)), virt(g.alloc(16)), g.alloc(len(data))
	g.Write(raw, data)
	g.put(one+16, module)
	g.put(one+24, types)
	g.put(types, virt(raw))
	g.put(types+8, len(data))
	g.link(one, head)
	spec, err := k.ModuleTypes(m)
	if err != nil {
		t.Fatal(err)
	}
	var s *btf.Struct
	if err := spec.TypeByName("private", &s); err != nil || s.Size != 40 {
		t.Errorf("%v, %v", s, err)
	}
	for path, want := range map[string]uint32{"private.links": 24, "private.links.prev": 32} {
		if f, err := k.ModuleField(m, path); err != nil || f.Offset != want {
			t.Errorf("%s: %+v, %v", path, f, err)
		}
	}
	if _, err := k.ModuleField(m, "private.none"); !errors.Is(err, ErrNoField) {
		t.Errorf("a member that there is not: %v", err)
	}
	if _, err := k.ModuleTypes(Module{Addr: module + 8}); !errors.Is(err, ErrNoBTF) {
		t.Errorf("of another module: %v", err)
	}
	g.put(types+8, maxBTF+1)
	if _, err := k.ModuleTypes(m); !errors.Is(err, ErrCorrupt) {
		t.Errorf("of %d bytes: %v", maxBTF+1, err)
	}
	g.put(types+8, len(data))
	g.Write(raw, make([]byte, len(data)))
	if _, err := k.ModuleTypes(m); err == nil {
		t.Error("of nothing: no error")
	}
	g.put(one, one)
	if _, err := k.ModuleTypes(Module{Addr: module + 8}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("in a circle: %v", err)
	}
	old := newTestGuest(t, guestOptions{}).open(t)
	if _, err := old.ModuleTypes(m); !errors.Is(err, ErrNoBTF) {
		t.Errorf("of a kernel that keeps none: %v", err)
	}
}

// FuzzModuleTypes changes a module's BTF and resolves a member in what is left.
func FuzzModuleTypes(f *testing.F) {
	types := encodeTypes(f, testTypes())
	kernel, err := parseBTF(types, nil)
	if err != nil {
		f.Fatal(err)
	}
	good := splitBTF(f, types)
	f.Add(uint16(0), []byte{1})
	f.Add(uint16(30), []byte{0xff, 1, 0, 7})
	f.Fuzz(func(t *testing.T, at uint16, patch []byte) {
		p := append([]byte(nil), good...)
		for i, b := range patch {
			p[(int(at)+i)%len(p)] ^= b
		}
		spec, err := parseBTF(p, kernel)
		if err != nil {
			return
		}
		_, _ = fieldOf(spec, "private.links.prev")
	})
}
