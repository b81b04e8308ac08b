package linux

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/govmi/govmi/vmi"
)

// Field is a member of a kernel structure, resolved once and read often.
type Field struct {
	// Path is the name that it was looked up by.
	Path string
	// Offset is that of the member in the structure named first in Path, Size
	// the member's own size, in bytes.
	Offset, Size uint32
	// BitSize is not 0 for a bit field, which starts BitOffset bits above
	// the lowest bit of the Size bytes at Offset.
	BitOffset, BitSize uint8
}

const (
	// maxNesting bounds the members of members that a name is searched in.
	maxNesting = 16
	// maxVisits bounds the members looked at; task_struct has some 250.
	maxVisits = 100_000
)

// Field resolves a path such as "task_struct.pid" or "task_struct.se.on_rq".
// Members of anonymous members are found as C finds them. A pointer is not
// followed. An unknown name is [ErrNoField].
func (k *Kernel) Field(path string) (Field, error) { return fieldOf(k.types, path) }

func fieldOf(types *btf.Spec, path string) (f Field, err error) {
	defer func() {
		if r := recover(); r != nil { // types are the guest's
			f, err = Field{}, fmt.Errorf("%w: BTF of %s: %v", ErrCorrupt, path, r)
		}
	}()
	name, rest, ok := strings.Cut(path, ".")
	if !ok {
		return Field{}, fmt.Errorf("%w: %q is not of the form struct.member", ErrNoField, path)
	}
	typ, err := structureOf(types, name)
	if err != nil {
		return Field{}, err
	}
	var bits btf.Bits
	var m btf.Member
	visits := maxVisits
	for i, part := range strings.Split(rest, ".") {
		if i >= maxNesting {
			return Field{}, fmt.Errorf("%w: %s is nested too deeply", ErrNoField, path)
		}
		var off btf.Bits
		m, off, ok = findMember(typ, part, 0, &visits)
		if !ok {
			return Field{}, fmt.Errorf("%w: %s", ErrNoField, path)
		}
		bits += off
		typ = btf.UnderlyingType(m.Type)
	}
	return makeField(path, bits, m)
}

// findMember returns the member of a name and its offset in typ. Types that
// contain themselves, or each other many times over, are not C but can be in
// a guest's BTF.
func findMember(typ btf.Type, name string, depth int, visits *int) (btf.Member, btf.Bits, bool) {
	var members []btf.Member
	switch t := typ.(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	}
	if *visits -= len(members); depth > maxNesting || *visits < 0 {
		return btf.Member{}, 0, false
	}
	for _, m := range members {
		if m.Name == name {
			return m, m.Offset, true
		}
	}
	for _, m := range members {
		if m.Name != "" {
			continue
		}
		if found, off, ok := findMember(btf.UnderlyingType(m.Type), name, depth+1, visits); ok {
			return found, m.Offset + off, true
		}
	}
	return btf.Member{}, 0, false
}

func makeField(path string, bits btf.Bits, m btf.Member) (Field, error) {
	size, err := btf.Sizeof(m.Type)
	if err != nil {
		return Field{}, fmt.Errorf("size of %s: %w", path, err)
	}
	f := Field{Path: path, Offset: uint32(bits / 8), Size: uint32(size)}
	if m.BitfieldSize != 0 {
		if size < 1 || size > 8 || m.BitfieldSize > 64 {
			return Field{}, fmt.Errorf("%w: bit field %s", ErrCorrupt, path)
		}
		// Read the storage unit of the declared type, as the kernel does.
		unit := btf.Bits(size * 8)
		f.Offset = uint32(bits / unit * btf.Bits(size))
		f.BitOffset, f.BitSize = uint8(bits%unit), uint8(m.BitfieldSize)
		if uint32(f.BitOffset)+uint32(f.BitSize) > uint32(unit) {
			return Field{}, fmt.Errorf("%w: bit field %s", ErrCorrupt, path)
		}
	}
	return f, nil
}

// Uint reads the field as an unsigned number. base is the address of the
// structure. It does not allocate.
func (f Field) Uint(s vmi.AddressSpace, base vmi.VirtAddr) (uint64, error) {
	var v uint64
	var err error
	at := base + vmi.VirtAddr(f.Offset)
	switch f.Size {
	case 1:
		var b uint8
		b, err = s.Uint8(at)
		v = uint64(b)
	case 2:
		var h uint16
		h, err = s.Uint16(at)
		v = uint64(h)
	case 4:
		var w uint32
		w, err = s.Uint32(at)
		v = uint64(w)
	case 8:
		v, err = s.Uint64(at)
	default:
		return 0, fmt.Errorf("%s has %d bytes and is not a number", f.Path, f.Size)
	}
	if f.BitSize != 0 {
		v = v >> f.BitOffset & (1<<f.BitSize - 1)
	}
	return v, err
}

// Pointer reads the field as an address. It does not allocate.
func (f Field) Pointer(s vmi.AddressSpace, base vmi.VirtAddr) (vmi.VirtAddr, error) {
	v, err := f.Uint(s, base)
	return vmi.VirtAddr(v), err
}

// sizeof returns the size of a structure in bytes.
func (k *Kernel) sizeof(name string) (uint32, error) {
	typ, err := k.structure(name)
	if err != nil {
		return 0, err
	}
	size, err := btf.Sizeof(typ)
	if err != nil || size <= 0 || size > maxMember {
		return 0, fmt.Errorf("%w: size of %s: %d, %v", ErrCorrupt, name, size, err)
	}
	return uint32(size), nil
}
