package linux

import "github.com/govmi/govmi/vmi"

// SyscallArg is a system call's parameter as the kernel's source declares it.
type SyscallArg struct {
	Name string // "filename"
	Type string // "const char *"
}

// Syscall is a system call of the 64-bit table.
type Syscall struct {
	Number int
	Name   string // as user space calls it: "openat", "stat"
	// Args is nil if the kernel has no metadata; see [SyscallTable.Source].
	Args []SyscallArg
	// HasArgs tells a call without parameters from one without metadata.
	HasArgs bool
	// Entry is the function in the kernel's table, EntrySymbol its name.
	Entry       vmi.VirtAddr
	EntrySymbol string
}

// SyscallSource says where the names of system calls come from.
type SyscallSource string

// The sources.
const (
	FromMetadata SyscallSource = "syscalls_metadata"
	FromTable    SyscallSource = "sys_call_table"
)

// SyscallTable is the kernel's table of 64-bit system calls. It is immutable.
type SyscallTable struct {
	// Source says where names come from. Single calls that lack metadata are
	// named by the table's symbol even with [FromMetadata].
	Source SyscallSource
}

// Syscalls reads the guest's table of system calls, once; later calls return
// the same table.
func (k *Kernel) Syscalls() (*SyscallTable, error) { return nil, errTODO }

// Len returns the number of slots; numbers are below it.
func (t *SyscallTable) Len() int { return 0 }

// Number returns the system call with number nr. It reports false for a
// number that the kernel does not implement.
func (t *SyscallTable) Number(nr int) (*Syscall, bool) { return nil, false }

// Name returns the system call with a name such as "openat".
func (t *SyscallTable) Name(name string) (*Syscall, bool) { return nil, false }

// ByEntry returns the system call whose entry function is at va.
func (t *SyscallTable) ByEntry(va vmi.VirtAddr) (*Syscall, bool) { return nil, false }
