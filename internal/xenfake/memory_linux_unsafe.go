//go:build linux

package xenfake

import (
	"encoding/binary"
	"syscall"
	"unsafe" // Sizeof, and the bytes of a record

	"golang.org/x/sys/unix"

	"github.com/govmi/govmi/internal/abi"
)

// accessOp restricts what the guest may do with pages in its own p2m.
func (x *Xen) accessOp(a *abi.AccessOp) syscall.Errno {
	d := x.domains[a.DomID]
	deflt := uint8(abi.AccessDefault(x.cfg.Major, x.cfg.Minor))
	switch {
	case d == nil:
		return syscall.ESRCH
	case d.cfg.PV || d.cfg.Shadow || !x.mtf(): // VMX
		return syscall.EINVAL
	case d.ring == nil:
		return syscall.ENODEV
	}
	switch a.Op {
	case abi.AccessOpGet:
		if d.page(a.PFN) == nil {
			return syscall.ESRCH
		}
		a.Access = abi.AccessRWX
		if v, ok := d.access[a.PFN]; ok {
			a.Access = v
		}
		return 0
	case abi.AccessOpSet:
	default:
		return syscall.ENOSYS
	}
	switch a.Access {
	case abi.AccessW, abi.AccessWX:
		x.violate("access %d crashes the guest", a.Access)
	case deflt:
		a.Access = d.deflt
	}
	switch {
	case a.Access > deflt:
		return syscall.EINVAL
	case a.PFN == abi.AccessOpDefault:
		d.deflt = a.Access
		return 0
	case a.PFN+uint64(a.Nr)-1 > d.maxGPFN():
		return syscall.EINVAL
	}
	for gfn := a.PFN; gfn < a.PFN+uint64(a.Nr); gfn++ {
		if delete(d.access, gfn); d.page(gfn) != nil && a.Access != abi.AccessRWX {
			d.access[gfn] = a.Access
		}
	}
	return 0
}

// Restricted returns how many pages the guest may not do everything with, and
// what it may do with those to come.
func (d *Domain) Restricted() (pages int, deflt uint8) {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return len(d.access), d.deflt
}

// wholeContext is a header and the vCPUs.
func (x *Xen) wholeContext(d *Domain, u *abi.HVMContext) syscall.Errno {
	if d.cfg.PV {
		return syscall.EINVAL
	}
	record := func(b []byte, typ, instance uint16, data []byte) []byte {
		b = binary.LittleEndian.AppendUint16(b, typ)
		b = binary.LittleEndian.AppendUint16(b, instance)
		return append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...)
	}
	b := record(nil, abi.HVMSaveHeader, 0, make([]byte, 24))
	for i := range d.cpus {
		b = record(b, abi.HVMSaveCPU, uint16(i), unsafe.Slice((*byte)(unsafe.Pointer(&d.cpus[i])), unsafe.Sizeof(d.cpus[i])))
	}
	b = record(b, abi.HVMSaveEnd, 0, nil)
	if u.Buffer == 0 {
		u.Size = uint32(len(b))
		return 0
	}
	if int(u.Size) < len(b) {
		return syscall.ENOSPC
	}
	mem, errno := x.memory(u.Buffer, len(b))
	if errno == 0 {
		copy(mem, b)
		u.Size = uint32(len(b))
	}
	return errno
}

// readConsole gives what Xen said when it booted.
func (x *Xen) readConsole(u *abi.ReadConsole) syscall.Errno {
	const said = "(XEN) Xen version fake\n"
	start := min(u.Index, uint32(len(said)))
	text := said[start:][:min(u.Count, uint32(len(said))-start)]
	b, errno := x.memory(u.Buffer, len(text))
	if errno == 0 {
		copy(b, text)
		u.Count, u.Index = uint32(len(text)), start+uint32(len(text))
	}
	return errno
}

// mapResource fills the mapping with a copy of the grant table: the toolstack's
// two entries, for the console and for XenStore.
func (x *Xen) mapResource(a *abi.PrivcmdResource) (int, error) {
	fm := x.mapping(a.Addr)
	d := x.domains[a.Dom]
	switch {
	case fm == nil || fm.filled || int(a.Num)*abi.PageSize != len(fm.mem):
		return -1, syscall.EINVAL
	case d == nil:
		return -1, syscall.ESRCH
	case a.Type != abi.ResourceGrantTable || a.ID != abi.ResourceGrantTableShared || d.cfg.PV:
		return -1, syscall.EOPNOTSUPP
	}
	if err := unix.Mprotect(fm.mem, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return -1, err
	}
	for i, gfn := range []uint32{consoleGFN, storeGFN} {
		const permitAccess = 1
		binary.LittleEndian.PutUint16(fm.mem[8*i:], permitAccess)
		binary.LittleEndian.PutUint32(fm.mem[8*i+4:], gfn)
	}
	fm.filled = true
	return 0, unix.Mprotect(fm.mem, unix.PROT_READ)
}
