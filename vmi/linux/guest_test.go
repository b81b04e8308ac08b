package linux

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/internal/fakeguest"
	"github.com/govmi/govmi/xen"
)

// The addresses of the test guest's kernel: one large page of code, then data
// in small pages, as a kernel with KASLR has them.
const (
	kernelText   vmi.VirtAddr = testEntry &^ 0x1fffff
	kernelROData              = kernelText + 0x200000
	kernelData                = kernelText + 0x600000
	directMap    vmi.VirtAddr = 0xffff9a8000000000

	textPhys vmi.PhysAddr = 0x4000000
	roPhys   vmi.PhysAddr = 0x4200000
	dataPhys vmi.PhysAddr = 0x4600000
	heapPhys vmi.PhysAddr = 0x8000000

	cpuArea vmi.VirtAddr = 0xfffffe0000000000
)

// Places of kernel variables in the data pages.
const (
	dTopTable    = 0x0000 // two pages
	dBanner      = 0x2000
	dCPUOffset   = 0x2800
	dCPUCount    = 0x2900
	dCallTable   = 0x3000
	dCallEnd     = 0x3040
	dMetadata    = 0x3100
	dInitTask    = 0x4000
	dSize        = 0x8000
	currentTask  = 0x1ac40
	currentField = 8 // of pcpu_hot
)

// Offsets in the test guest's structures, which its BTF describes.
const (
	oTasks, oMM, oPID, oTGID, oLeader = 0x10, 0x20, 0x28, 0x2c, 0x30
	oThreadNode, oSignal, oComm, oSE  = 0x38, 0x48, 0x50, 0x60
	taskSize                          = 0x80
	oThreadHead, oLive                = 0x8, 0x18
	oPGD                              = 0x18
)

// guestOptions vary the test guest; the zero value is a 6.1 kernel.
type guestOptions struct {
	variant kallsymsVariant
	levels  int
	kpti    bool
	hot     bool     // current_task is in pcpu_hot
	without []string // symbols that are left out
	more    []Symbol
	types   []btf.Type
	banner  string
}

// testGuest is a guest with a kernel as Open needs it, two processes, one of
// them with two threads, and a kernel thread.
type testGuest struct {
	*fakeguest.Memory
	o    guestOptions
	mem  *vmi.Memory
	root vmi.PhysAddr // of process 1
	next vmi.PhysAddr // heap
	regs []xen.Registers

	cpu0                          vmi.VirtAddr // per-CPU offset
	init, kthread, proc1, proc2   vmi.VirtAddr // tasks
	thread                        vmi.VirtAddr // second thread of proc2
	syscallRead, syscallOpen, sni vmi.VirtAddr
}

func virt(a vmi.PhysAddr) vmi.VirtAddr { return directMap + vmi.VirtAddr(a) }

// data returns where a kernel variable is in guest-physical memory.
func data(off int) vmi.PhysAddr { return dataPhys + vmi.PhysAddr(off) }

func (g *testGuest) alloc(size int) vmi.PhysAddr {
	a := g.next
	g.next += vmi.PhysAddr(alignUp(size))
	g.Write(a, make([]byte, size))
	return a
}

func (g *testGuest) put(va vmi.VirtAddr, v any) {
	var b []byte
	switch v := v.(type) {
	case uint64:
		b = binary.LittleEndian.AppendUint64(nil, v)
	case vmi.VirtAddr:
		b = binary.LittleEndian.AppendUint64(nil, uint64(v))
	case int:
		b = binary.LittleEndian.AppendUint32(nil, uint32(v))
	case string:
		b = append([]byte(v), 0)
	}
	if va >= kernelData {
		g.Write(dataPhys+vmi.PhysAddr(va-kernelData), b)
	} else {
		g.Write(vmi.PhysAddr(va-directMap), b)
	}
}

// text puts a string on the heap.
func (g *testGuest) text(s string) vmi.VirtAddr {
	a := virt(g.alloc(len(s) + 1))
	g.put(a, s)
	return a
}

// newRoot returns a root table with the kernel's half. Under KPTI the second
// page is a user half with the CPU entry area and the entry code.
func (g *testGuest) newRoot() vmi.PhysAddr {
	g.next = (g.next + 0x1fff) &^ 0x1fff
	root := g.alloc(2 * xen.PageSize)
	g.mapKernel(root)
	return root
}

func (g *testGuest) mapKernel(root vmi.PhysAddr) {
	l := g.o.levels
	g.Map(root, l, kernelText, textPhys, 2, 0)
	for off := vmi.PhysAddr(0); off < 0x200000; off += xen.PageSize {
		g.Map(root, l, kernelROData+vmi.VirtAddr(off), roPhys+off, 1, fakeguest.NoExec)
	}
	for off := vmi.PhysAddr(0); off < dSize; off += xen.PageSize {
		g.Map(root, l, kernelData+vmi.VirtAddr(off), dataPhys+off, 1, fakeguest.NoExec|fakeguest.Writable)
	}
	g.Map(root, l, directMap, 0, 3, fakeguest.NoExec|fakeguest.Writable)
	g.Map(root, l, cpuArea, 0x7000000, 1, fakeguest.NoExec)
	if g.o.kpti {
		g.Map(root+xen.PageSize, l, cpuArea, 0x7000000, 1, fakeguest.NoExec)
		entryPage := testEntry &^ (xen.PageSize - 1)
		g.Map(root+xen.PageSize, l, entryPage, textPhys+vmi.PhysAddr(entryPage-kernelText), 1, 0)
	}
}

// newTask puts a task into the list of init, and into its process's list of
// threads. root 0 makes a kernel thread.
func (g *testGuest) newTask(pid, tgid int, comm string, root vmi.PhysAddr, leader vmi.VirtAddr) vmi.VirtAddr {
	t := virt(g.alloc(taskSize))
	g.put(t+oPID, pid)
	g.put(t+oTGID, tgid)
	g.put(t+oComm, comm)
	if leader != 0 {
		g.put(t+oLeader, leader)
		signal := g.read(leader + oSignal)
		g.put(t+oSignal, signal)
		g.link(t+oThreadNode, signal+oThreadHead)
		g.put(signal+oLive, int(uint32(g.read(signal+oLive)))+1)
		return t
	}
	g.put(t+oLeader, t)
	signal := virt(g.alloc(0x20))
	g.put(t+oSignal, signal)
	g.put(signal+oThreadHead, signal+oThreadHead)
	g.put(signal+oThreadHead+8, signal+oThreadHead)
	g.put(signal+oLive, 1)
	g.link(t+oThreadNode, signal+oThreadHead)
	g.link(t+oTasks, g.init+oTasks)
	if root != 0 {
		mm := virt(g.alloc(0x40))
		g.put(mm+oPGD, virt(root))
		g.put(t+oMM, mm)
	}
	return t
}

// link adds node at the end of a list_head list.
func (g *testGuest) link(node, head vmi.VirtAddr) {
	prev := g.read(head + 8)
	g.put(node, head)
	g.put(node+8, prev)
	g.put(prev, node)
	g.put(head+8, node)
}

func (g *testGuest) read(va vmi.VirtAddr) vmi.VirtAddr {
	v, err := g.mem.AddressSpace(vmi.CR3(data(dTopTable))).Uint64(va)
	if g.o.levels == 5 {
		v, err = g.mem.AddressSpace5(vmi.CR3(data(dTopTable))).Uint64(va)
	}
	if err != nil {
		panic(err)
	}
	return vmi.VirtAddr(v)
}

// symbols returns the guest's symbols, among others that fill the table.
func (g *testGuest) symbols() []Symbol {
	syms := []Symbol{
		{0, "fixed_percpu_data", 'A'},
		{kernelText, "_text", 'T'},
		{kernelText, "_stext", 'T'},
		{kernelText + 0x1f0000, "_etext", 'T'},
		{testEntry, entrySymbol, 'T'},
		{g.syscallRead, "__x64_sys_read", 'T'},
		{g.syscallOpen, "__ia32_sys_alias", 'T'},
		{g.syscallOpen, "__x64_sys_newstat", 'T'},
		{g.sni, "__x64_sys_ni_syscall", 'T'},
		{kernelData + dTopTable, "init_top_pgt", 'D'},
		{kernelData + dBanner, "linux_banner", 'D'},
		{kernelData + dCPUOffset, "__per_cpu_offset", 'D'},
		{kernelData + dCPUCount, "nr_cpu_ids", 'D'},
		{kernelData + dCallTable, "sys_call_table", 'D'},
		{kernelData + dCallEnd, "sys_call_table_end", 'D'},
		{kernelData + dMetadata, "syscalls_metadata", 'd'},
		{kernelData + dInitTask, "init_task", 'D'},
		{kernelData + dSize, "_end", 'B'},
	}
	if g.o.hot {
		syms = append(syms, Symbol{currentTask - currentField, "pcpu_hot", 'A'})
	} else {
		syms = append(syms, Symbol{currentTask, "current_task", 'A'})
	}
	syms = append(syms, g.o.more...)
	for i := range 600 {
		syms = append(syms, Symbol{kernelText + 0x100000 + vmi.VirtAddr(i*64), bigrams[i%len(bigrams)] + "_fill", 't'})
	}
	return syms
}

func newTestGuest(t testing.TB, o guestOptions) *testGuest {
	t.Helper()
	if o.variant.name == "" {
		o.variant = kallsymsVariants[1]
	}
	if o.levels == 0 {
		o.levels = 4
	}
	if o.types == nil {
		o.types = testTypes()
	}
	if o.banner == "" {
		o.banner = "Linux version 6.1.0-99-test (me@here) (gcc) #1 SMP\n"
	}
	g := &testGuest{
		Memory: fakeguest.New(), o: o, next: heapPhys,
		syscallRead: kernelText + 0x110001, syscallOpen: kernelText + 0x110101, sni: kernelText + 0x110201,
	}
	// Tables are allocated above all else.
	g.Write(0x30000000, []byte{0})
	g.mem = vmi.NewMemory(g, nil)
	t.Cleanup(func() { g.mem.Close() })

	g.Write(data(0), make([]byte, dSize))
	g.mapKernel(data(dTopTable))
	g.put(kernelData+dBanner, o.banner)
	percpu := g.alloc(0x20000)
	g.cpu0 = virt(percpu)
	g.put(kernelData+dCPUOffset, g.cpu0)
	g.put(kernelData+dCPUOffset+8, g.cpu0+0x100000)
	g.put(kernelData+dCPUCount, 2)

	g.init = kernelData + dInitTask
	g.put(g.init+oTasks, g.init+oTasks)
	g.put(g.init+oTasks+8, g.init+oTasks)
	g.put(g.init+oComm, "swapper/0")
	g.root = g.newRoot()
	g.proc1 = g.newTask(1, 1, "init", g.root, 0)
	g.kthread = g.newTask(2, 2, "kthreadd", 0, 0)
	g.proc2 = g.newTask(77, 77, "fifteen-letters", g.newRoot(), 0)
	g.thread = g.newTask(78, 77, "worker", 0, g.proc2)
	g.put(g.cpu0+currentTask, g.proc1)

	for i, entry := range []vmi.VirtAddr{g.syscallRead, g.sni, g.sni, g.sni, g.syscallOpen} {
		g.put(kernelData+dCallTable+vmi.VirtAddr(8*i), entry)
	}

	var syms []Symbol
	for _, s := range g.symbols() {
		if !slices.Contains(o.without, s.Name) {
			syms = append(syms, s)
		}
	}
	types := encodeTypes(t, o.types)
	const btfAt = 0x100000
	syms = append(syms, Symbol{kernelROData + btfAt, "__start_BTF", 'R'},
		Symbol{kernelROData + btfAt + vmi.VirtAddr(len(types)), "__stop_BTF", 'R'})
	syms = slices.DeleteFunc(syms, func(s Symbol) bool { return slices.Contains(o.without, s.Name) })
	slices.SortStableFunc(syms, func(a, b Symbol) int {
		if a.Addr < b.Addr {
			return -1
		}
		return int(min(a.Addr-b.Addr, 1))
	})
	g.Write(roPhys, make([]byte, 0x200000))
	if !slices.Contains(o.without, "kallsyms") {
		g.Write(roPhys+0x3008, encodeKallsyms(syms, o.variant, kernelROData+0x3008))
	}
	g.Write(roPhys+btfAt, types)

	kernelMode := xen.Registers{
		CR3: uint64(g.root) | 0x5, EFER: 0xd01, LSTAR: uint64(testEntry), RIP: uint64(kernelText + 0x100),
		GS: xen.Segment{Base: uint64(g.cpu0)}, ShadowGS: 0x7f0000001000,
	}
	if o.levels == 5 {
		kernelMode.CR4 = cr4LA57
	}
	userMode := kernelMode
	userMode.RIP = 0x400000
	userMode.SS.Access = 3 << 5
	userMode.GS.Base, userMode.ShadowGS = userMode.ShadowGS, userMode.GS.Base
	if o.kpti {
		userMode.CR3 |= 0x1000
	}
	g.regs = []xen.Registers{kernelMode, userMode}
	return g
}

func (g *testGuest) open(t testing.TB) *Kernel {
	t.Helper()
	k, err := Open(g.mem, g.regs)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// addMetadata gives system calls 0 and 4 what the kernel keeps for tracing.
func (g *testGuest) addMetadata() (array, read vmi.VirtAddr) {
	list := func(items ...string) vmi.VirtAddr {
		a := virt(g.alloc(8*len(items) + 8))
		for i, s := range items {
			g.put(a+vmi.VirtAddr(8*i), g.text(s))
		}
		return a
	}
	meta := func(nr int, name string, types, args vmi.VirtAddr, n int) vmi.VirtAddr {
		a := virt(g.alloc(0x40))
		g.put(a, g.text(name))
		g.put(a+8, nr)
		g.put(a+12, n)
		g.put(a+16, types)
		g.put(a+24, args)
		return a
	}
	array = virt(g.alloc(0x40))
	read = meta(0, "sys_read", list("unsigned int", "char *", "size_t"), list("fd", "buf", "count"), 3)
	g.put(array, read)
	g.put(array+8*4, meta(4, "sys_newstat", list("const char *", "struct stat *"), list("filename", "statbuf"), 2))
	g.put(kernelData+dMetadata, array)
	return array, read
}

// testTypes returns the guest's types; the offsets are those above.
func testTypes() []btf.Type {
	u8 := &btf.Int{Name: "unsigned char", Size: 1}
	char := &btf.Int{Name: "char", Size: 1, Encoding: btf.Char}
	i32 := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	u64 := &btf.Int{Name: "long unsigned int", Size: 8}
	ptr := &btf.Pointer{Target: &btf.Void{}}
	list := &btf.Struct{Name: "list_head", Size: 16, Members: []btf.Member{
		{Name: "next", Type: ptr}, {Name: "prev", Type: ptr, Offset: 64},
	}}
	at := func(off int) btf.Bits { return btf.Bits(off * 8) }
	entity := &btf.Struct{Name: "sched_entity", Size: 0x18, Members: []btf.Member{
		{Name: "load", Type: u64},
		{Name: "on_rq", Type: i32, Offset: at(8) + 3, BitfieldSize: 2},
		{Type: &btf.Union{Size: 8, Members: []btf.Member{
			{Name: "deep", Type: &btf.Typedef{Name: "u8", Type: u8}},
			{Type: &btf.Struct{Size: 8, Members: []btf.Member{{Name: "low", Type: i32}, {Name: "high", Type: i32, Offset: 32}}}},
		}}, Offset: at(0x10)},
	}}
	pid := &btf.Typedef{Name: "pid_t", Type: i32}
	task := &btf.Struct{Name: "task_struct", Size: taskSize, Members: []btf.Member{
		{Name: "state", Type: i32},
		{Name: "tasks", Type: list, Offset: at(oTasks)},
		{Name: "mm", Type: ptr, Offset: at(oMM)},
		{Name: "pid", Type: pid, Offset: at(oPID)},
		{Name: "tgid", Type: pid, Offset: at(oTGID)},
		{Name: "group_leader", Type: ptr, Offset: at(oLeader)},
		{Name: "thread_node", Type: list, Offset: at(oThreadNode)},
		{Name: "signal", Type: ptr, Offset: at(oSignal)},
		{Name: "comm", Type: &btf.Array{Index: i32, Type: char, Nelems: 16}, Offset: at(oComm)},
		{Name: "se", Type: entity, Offset: at(oSE)},
	}}
	atomic := &btf.Typedef{Name: "atomic_t", Type: &btf.Struct{Size: 4, Members: []btf.Member{{Name: "counter", Type: i32}}}}
	return []btf.Type{
		task,
		&btf.Struct{Name: "signal_struct", Size: 0x20, Members: []btf.Member{
			{Name: "count", Type: i32}, {Name: "thread_head", Type: list, Offset: at(oThreadHead)},
			{Name: "live", Type: atomic, Offset: at(oLive)},
		}},
		&btf.Struct{Name: "mm_struct", Size: 0x20, Members: []btf.Member{
			{Type: &btf.Struct{Size: 0x18, Members: []btf.Member{
				{Name: "count", Type: i32}, {Name: "pgd", Type: ptr, Offset: at(0x10)},
			}}, Offset: at(8)},
		}},
		&btf.Struct{Name: "pcpu_hot", Size: 0x40, Members: []btf.Member{
			{Type: &btf.Union{Size: 0x40, Members: []btf.Member{
				{Type: &btf.Struct{Size: 0x10, Members: []btf.Member{
					{Name: "count", Type: i32}, {Name: "current_task", Type: ptr, Offset: at(currentField)},
				}}},
			}}},
		}},
		&btf.Struct{Name: "syscall_metadata", Size: 0x20, Members: []btf.Member{
			{Name: "name", Type: ptr}, {Name: "syscall_nr", Type: i32, Offset: at(8)},
			{Name: "nb_args", Type: i32, Offset: at(12)}, {Name: "types", Type: ptr, Offset: at(16)},
			{Name: "args", Type: ptr, Offset: at(24)},
		}},
	}
}

func encodeTypes(t testing.TB, types []btf.Type) []byte {
	t.Helper()
	b, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Marshal(nil, &btf.MarshalOptions{Order: binary.LittleEndian})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
