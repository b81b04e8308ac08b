package linux

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cilium/ebpf/btf"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// Kernel is a guest's running kernel. Its methods are safe for concurrent
// use. It keeps no resource of its own: the caller closes the memory.
type Kernel struct {
	as      vmi.AddressSpace
	syms    *Symbols
	types   *btf.Spec
	release string
	entry   vmi.VirtAddr
	kpti    bool

	percpu percpu
	task   taskFields

	fields struct {
		process      members[processFields]
		module       members[moduleFields]
		moduleSymbol members[moduleSymbolFields]
		moduleType   members[moduleTypeFields]
		log          members[logFields]
		path         members[pathFields]
		mount        members[mountFields]
		file         members[fileFields]
		maps         members[mapFields]
		maple        members[mapleFields]
		cache        members[cacheFields]
		socket       members[socketFields]
		index        members[indexFields]
		probe        members[probeFields]
		blacklist    members[blacklistFields]
		iface        members[interfaceFields]
		namespace    members[namespaceFields]
		code         members[codeFields]
		clock        members[clockFields]
	}

	syscallsMu sync.Mutex
	syscalls   *SyscallTable
}

// Open finds the kernel in mem. regs holds the registers of the guest's
// vCPUs, of which one that has run the kernel is enough. Open reads some tens
// of MiB of guest memory; it may run while the guest runs. Registers of a core
// dump will do. Errors are [ErrNoRegisters], [ErrBooting], [ErrNotLinux], [ErrNoKallsyms], [ErrNoBTF], or name the symbol
// or structure member that the kernel lacks.
func Open(mem *vmi.Memory, regs []xen.Registers) (*Kernel, error) {
	entry, as, err := findImage(mem, regs)
	if err != nil {
		return nil, err
	}
	k := &Kernel{as: as}
	if k.syms, err = findSymbols(as, entry); err != nil {
		return nil, err
	}
	if k.entry, err = k.syms.Lookup(entrySymbol); err != nil {
		return nil, err
	}
	if err := k.enterOwnTables(); err != nil {
		return nil, err
	}
	if k.release, err = k.readRelease(); err != nil {
		return nil, err
	}
	if k.types, err = k.readTypes(); err != nil {
		return nil, fmt.Errorf("kernel %s: %w", k.release, err)
	}
	if err := k.resolve(regs); err != nil {
		return nil, fmt.Errorf("kernel %s: %w", k.release, err)
	}
	return k, nil
}

// enterOwnTables moves from the page tables that a vCPU happened to use, which
// die with their process, to the kernel's own.
func (k *Kernel) enterOwnTables() error {
	table, err := k.syms.Lookup("init_top_pgt")
	if err != nil {
		return err
	}
	root, err := k.as.Translate(table)
	if err != nil {
		return fmt.Errorf("kernel's page tables: %w", err)
	}
	want, err := k.as.Translate(k.entry)
	if err != nil {
		return err
	}
	own := k.as.WithRoot(vmi.CR3(root))
	got, err := own.Translate(k.entry)
	if err != nil {
		return fmt.Errorf("kernel's page tables: %w", err)
	}
	if got != want {
		return fmt.Errorf("%w: kernel's page tables map its entry point elsewhere than the vCPU's", ErrCorrupt)
	}
	k.as = own
	return k.detectKPTI(root)
}

// detectKPTI looks at the page behind the kernel's root table. Under KPTI it
// is the user half, in which the kernel maps its CPU entry area
// (fffffe0000000000). Otherwise it is empty or a table for another address.
func (k *Kernel) detectKPTI(root vmi.PhysAddr) error {
	user := k.as.WithRoot(vmi.CR3(root + xen.PageSize))
	const cpuEntryArea = 0xfffffe0000000000
	pa, err := user.Translate(cpuEntryArea)
	if errors.Is(err, vmi.ErrNotPresent) || errors.Is(err, vmi.ErrNotMapped) {
		return nil
	}
	if err != nil {
		return err
	}
	own, err := k.as.Translate(cpuEntryArea)
	k.kpti = err == nil && own == pa
	return nil
}

const bannerPrefix = "Linux version "

// readRelease reads the third word of "Linux version 6.1.0 ...".
func (k *Kernel) readRelease() (string, error) {
	addr, err := k.syms.Lookup("linux_banner")
	if err != nil {
		return "", err
	}
	banner, err := k.as.CString(addr, 512)
	if err != nil {
		return "", fmt.Errorf("kernel's banner: %w", err)
	}
	rest, ok := strings.CutPrefix(banner, bannerPrefix)
	release, _, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || len(release) > 64 {
		return "", fmt.Errorf("%w: kernel's banner is %.64q", ErrCorrupt, banner)
	}
	return release, nil
}

// resolve looks up once what the readers of tasks need.
func (k *Kernel) resolve(regs []xen.Registers) error {
	if err := k.percpu.resolve(k, regs); err != nil {
		return err
	}
	return k.task.resolve(k)
}

// Symbols returns the kernel's symbols, without those of its modules: see
// [Kernel.ModuleSymbols].
func (k *Kernel) Symbols() *Symbols { return k.syms }

// Types returns the kernel's type information, without that of its modules.
func (k *Kernel) Types() *btf.Spec { return k.types }

// Release returns the kernel's release as uname -r prints it.
func (k *Kernel) Release() string { return k.release }

// AddressSpace returns the kernel's own address space, which belongs to no
// process and lasts as long as the kernel runs.
func (k *Kernel) AddressSpace() vmi.AddressSpace { return k.as }

// KPTI reports whether the kernel runs user code on page tables of their own.
// Their root is the kernel half's with bit 12 set.
func (k *Kernel) KPTI() bool { return k.kpti }
