package linux

import "errors"

var (
	// ErrBooting says that no vCPU has a system call entry point yet.
	ErrBooting = errors.New("guest still booting: no system call entry point yet; try again when its kernel is up")
	// ErrNoRegisters says that nothing tells where the guest's page tables are.
	ErrNoRegisters = errors.New("no registers of the guest's vCPUs, as in a raw memory image: use a recording or a dump by xl dump-core")
	// ErrNotLinux says that the guest's system call entry point is not that of
	// a 64-bit Linux kernel.
	ErrNotLinux = errors.New("guest does not run a 64-bit Linux kernel")
	// ErrNoKallsyms says that the guest's kernel has no symbol table.
	ErrNoKallsyms = errors.New("no kallsyms in the guest's kernel; it needs CONFIG_KALLSYMS_ALL=y")
	// ErrNoBTF says that the guest's kernel has no type information.
	ErrNoBTF = errors.New("no BTF in the guest's kernel; it needs CONFIG_DEBUG_INFO_BTF=y")

	// ErrNoSymbol says that the kernel has no symbol of that name.
	ErrNoSymbol = errors.New("no such kernel symbol")
	// ErrNoField says that the kernel has no structure or member of that name.
	ErrNoField = errors.New("no such structure member")
	// ErrNoTask says that no task matches.
	ErrNoTask = errors.New("no such task")
	// ErrNoMM says that a task has no user address space: a kernel thread or
	// one that has exited.
	ErrNoMM = errors.New("task has no user address space")
	// ErrNotCached says that the guest does not have a part of a file in memory.
	ErrNotCached = errors.New("not in the guest's page cache")
	// ErrNotELF says that a file is no program or library of a 64-bit x86 guest.
	ErrNotELF = errors.New("not a 64-bit ELF file for x86")
	// ErrStripped says that a file has no symbols.
	ErrStripped = errors.New("file has no symbols")
	// ErrNotInKernel says that the registers do not lead to a per-CPU area.
	ErrNotInKernel = errors.New("registers do not lead to the kernel's per-CPU area")
	// ErrCorrupt says that a kernel structure is not as the kernel builds it.
	ErrCorrupt = errors.New("guest structure is corrupt")
)
