package linux

import (
	"fmt"
	"strings"

	"github.com/govmi/govmi/vmi"
)

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

	calls   []Syscall // by number; without a name: not implemented
	byName  map[string]int
	byEntry map[vmi.VirtAddr]int
}

const (
	maxSyscalls    = 1024
	maxSyscallArgs = 6
	maxSyscallText = 128 // bytes of a name or a type
)

// userNames are the calls that the kernel's source names otherwise than the
// table of the x86-64 ABI does.
var userNames = map[string]string{
	"newstat":    "stat",
	"newfstat":   "fstat",
	"newlstat":   "lstat",
	"newuname":   "uname",
	"sendfile64": "sendfile",
	"umount":     "umount2",
	"sysctl":     "_sysctl",
}

// userName turns the name of a kernel function into that of a system call.
func userName(function string) string {
	name := function
	for _, prefix := range []string{"__x64_sys_", "__se_sys_", "__do_sys_", "sys_"} {
		if rest, ok := strings.CutPrefix(function, prefix); ok {
			name = rest
			break
		}
	}
	if user, ok := userNames[name]; ok {
		return user
	}
	return name
}

// Syscalls reads the guest's table of system calls, once; later calls return
// the same table.
func (k *Kernel) Syscalls() (*SyscallTable, error) {
	k.syscallsMu.Lock()
	defer k.syscallsMu.Unlock()
	if k.syscalls != nil {
		return k.syscalls, nil
	}
	t, err := k.readSyscallTable()
	if err != nil {
		return nil, err
	}
	if err := k.readSyscallMetadata(t); err != nil {
		return nil, err
	}
	for i := range t.calls {
		c := &t.calls[i]
		if c.Name == "" {
			continue
		}
		// Of two with the same name or entry, as a guest could have, the first.
		if _, ok := t.byName[c.Name]; !ok {
			t.byName[c.Name] = i
		}
		if _, ok := t.byEntry[c.Entry]; !ok {
			t.byEntry[c.Entry] = i
		}
	}
	k.syscalls = t
	return t, nil
}

// syscallEntries returns the table of system calls as it is. It ends behind the
// last entry that leads to the kernel's code: what follows is padding.
func (k *Kernel) syscallEntries() ([]vmi.VirtAddr, error) {
	table, err := k.syms.Lookup("sys_call_table")
	if err != nil {
		return nil, err
	}
	code, err := k.code()
	if err != nil {
		return nil, err
	}
	entries := make([]vmi.VirtAddr, min(int(k.syms.after(table)-table)/8, maxSyscalls))
	end := 0
	for i := range entries {
		entry, err := k.as.Uint64(table + vmi.VirtAddr(8*i))
		if err != nil {
			return nil, fmt.Errorf("sys_call_table: %w", err)
		}
		if entries[i] = vmi.VirtAddr(entry); code.Contains(entries[i]) {
			end = i + 1
		}
	}
	return entries[:end], nil
}

// code returns where the code of the kernel's image is.
func (k *Kernel) code() (Range, error) {
	start, err := k.syms.Lookup("_stext")
	if err != nil {
		return Range{}, err
	}
	end, err := k.syms.Lookup("_etext")
	return Range{start, end}, err
}

// readSyscallTable reads the entry functions and names them by their symbols.
func (k *Kernel) readSyscallTable() (*SyscallTable, error) {
	entries, err := k.syscallEntries()
	if err != nil {
		return nil, err
	}
	t := &SyscallTable{
		Source:  FromTable,
		byName:  make(map[string]int),
		byEntry: make(map[vmi.VirtAddr]int),
	}
	for i, entry := range entries {
		c := Syscall{Number: i, Entry: entry}
		for sym := range k.syms.startingAt(c.Entry) {
			// An alias can share the address; the table's own name wins.
			if c.EntrySymbol == "" || strings.HasPrefix(sym.Name, "__x64_sys_") {
				c.EntrySymbol = sym.Name
			}
		}
		if c.Name = userName(c.EntrySymbol); c.Name == "ni_syscall" {
			c.Name = ""
		}
		t.calls = append(t.calls, c)
	}
	if len(t.calls) == 0 {
		return nil, fmt.Errorf("%w: sys_call_table is empty", ErrCorrupt)
	}
	return t, nil
}

// readSyscallMetadata adds what the kernel keeps for tracing system calls
// (CONFIG_FTRACE_SYSCALLS): an array, indexed by number, of pointers to struct
// syscall_metadata. A kernel without it is no error.
func (k *Kernel) readSyscallMetadata(t *SyscallTable) error {
	symbol, err := k.syms.Lookup("syscalls_metadata")
	if err != nil {
		return nil
	}
	array, err := k.as.Uint64(symbol)
	if err != nil {
		return fmt.Errorf("syscalls_metadata: %w", err)
	}
	if vmi.VirtAddr(array) < kernelHalf {
		return nil // not set up, as with ftrace off
	}
	var f metadataFields
	if err := f.resolve(k); err != nil {
		return nil // BTF of a kernel that has the symbol for another purpose
	}
	for i := range t.calls {
		c := &t.calls[i]
		meta, err := k.as.Uint64(vmi.VirtAddr(array) + vmi.VirtAddr(8*i))
		if err != nil {
			return fmt.Errorf("syscalls_metadata: %w", err)
		}
		if meta == 0 || c.Name == "" && c.EntrySymbol != "" {
			continue
		}
		if err := f.read(k, vmi.VirtAddr(meta), c); err != nil {
			return fmt.Errorf("metadata of system call %d: %w", i, err)
		}
		t.Source = FromMetadata
	}
	return nil
}

// metadataFields are the members of struct syscall_metadata.
type metadataFields struct {
	name, nr, args, types, names Field
}

func (f *metadataFields) resolve(k *Kernel) error {
	for _, m := range []struct {
		path string
		to   *Field
	}{
		{"syscall_metadata.name", &f.name},
		{"syscall_metadata.syscall_nr", &f.nr},
		{"syscall_metadata.nb_args", &f.args},
		{"syscall_metadata.types", &f.types},
		{"syscall_metadata.args", &f.names},
	} {
		var err error
		if *m.to, err = k.Field(m.path); err != nil {
			return err
		}
	}
	return nil
}

// read fills in c from the metadata at addr.
func (f *metadataFields) read(k *Kernel, addr vmi.VirtAddr, c *Syscall) error {
	nr, err := f.nr.Uint(k.as, addr)
	if err != nil {
		return err
	}
	n, err := f.args.Uint(k.as, addr)
	if err != nil {
		return err
	}
	if int32(nr) != int32(c.Number) || n > maxSyscallArgs {
		return fmt.Errorf("%w: number %d with %d parameters", ErrCorrupt, int32(nr), n)
	}
	at, err := f.name.Pointer(k.as, addr)
	if err != nil {
		return err
	}
	name, err := k.text(at)
	if err != nil {
		return err
	}
	types, err := f.types.Pointer(k.as, addr)
	if err != nil {
		return err
	}
	names, err := f.names.Pointer(k.as, addr)
	if err != nil {
		return err
	}
	args := make([]SyscallArg, n)
	for i := range args {
		if args[i].Type, err = k.textAt(types + vmi.VirtAddr(8*i)); err != nil {
			return err
		}
		if args[i].Name, err = k.textAt(names + vmi.VirtAddr(8*i)); err != nil {
			return err
		}
	}
	c.Name, c.Args, c.HasArgs = userName(name), args, true
	return nil
}

// textAt follows a pointer to a string.
func (k *Kernel) textAt(ptr vmi.VirtAddr) (string, error) {
	at, err := k.as.Uint64(ptr)
	if err != nil {
		return "", err
	}
	return k.text(vmi.VirtAddr(at))
}

// text reads a string that will be shown: printable, not empty and short.
func (k *Kernel) text(at vmi.VirtAddr) (string, error) {
	s, err := k.as.CString(at, maxSyscallText)
	if err != nil {
		return "", err
	}
	if s == "" || len(s) == maxSyscallText {
		return "", fmt.Errorf("%w: string at %v", ErrCorrupt, at)
	}
	for _, b := range []byte(s) {
		if b < ' ' || b > '~' {
			return "", fmt.Errorf("%w: string at %v", ErrCorrupt, at)
		}
	}
	return s, nil
}

// Len returns the number of slots; numbers are below it.
func (t *SyscallTable) Len() int { return len(t.calls) }

// Number returns the system call with number nr, which the caller must not
// change. It reports false for a number that the kernel does not implement.
func (t *SyscallTable) Number(nr int) (*Syscall, bool) {
	if nr < 0 || nr >= len(t.calls) || t.calls[nr].Name == "" {
		return nil, false
	}
	return &t.calls[nr], true
}

// Name returns the system call with a name such as "openat".
func (t *SyscallTable) Name(name string) (*Syscall, bool) {
	i, ok := t.byName[name]
	if !ok {
		return nil, false
	}
	return &t.calls[i], true
}

// ByEntry returns the system call whose entry function is at va.
func (t *SyscallTable) ByEntry(va vmi.VirtAddr) (*Syscall, bool) {
	i, ok := t.byEntry[va]
	if !ok {
		return nil, false
	}
	return &t.calls[i], true
}
