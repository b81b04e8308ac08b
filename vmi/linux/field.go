package linux

import "github.com/govmi/govmi/vmi"

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

// Field resolves a path such as "task_struct.pid" or "task_struct.se.on_rq".
// Members of anonymous members are found as C finds them. A pointer is not
// followed. An unknown name is [ErrNoField].
func (k *Kernel) Field(path string) (Field, error) { return Field{}, errTODO }

// Uint reads the field as an unsigned number. base is the address of the
// structure. It does not allocate.
func (f Field) Uint(s vmi.AddressSpace, base vmi.VirtAddr) (uint64, error) { return 0, errTODO }

// Pointer reads the field as an address. It does not allocate.
func (f Field) Pointer(s vmi.AddressSpace, base vmi.VirtAddr) (vmi.VirtAddr, error) {
	v, err := f.Uint(s, base)
	return vmi.VirtAddr(v), err
}
