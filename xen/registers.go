package xen

// Segment is one segment register with its hidden part.
type Segment struct {
	Selector uint16
	// Access holds the access rights as in a descriptor, bits 0-7 and 12-15
	// compressed to bits 0-11 as VMX and Xen store them.
	Access uint16
	Limit  uint32
	Base   uint64
}

// Registers is a vCPU's architectural state as far as introspection needs it.
// It is filled from a vm_event request or from an HVM context record; a field
// that the source does not carry is zero.
type Registers struct {
	RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI uint64
	R8, R9, R10, R11, R12, R13, R14, R15   uint64
	RIP, RFLAGS                            uint64
	CR0, CR2, CR3, CR4                     uint64
	DR6, DR7                               uint64

	CS, SS, DS, ES, FS, GS Segment

	// ShadowGS is the inactive GS base (IA32_KERNEL_GS_BASE): the kernel's
	// while the CPU runs user code under Linux, the user's after SWAPGS.
	ShadowGS uint64

	EFER, STAR, LSTAR       uint64
	SysenterCS, SysenterESP uint64
	SysenterEIP             uint64
	GDTRBase                uint64
	GDTRLimit               uint32
}

// CPL returns the current privilege level, which Xen keeps in SS's access
// rights.
func (r *Registers) CPL() int { return int(r.SS.Access>>5) & 3 }
