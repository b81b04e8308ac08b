package recorded

import (
	"encoding/binary"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// Space is an mm_struct with its page tables.
type Space struct {
	Addr, PGD vmi.VirtAddr
	Root      vmi.PhysAddr
	Users     int // threads that have it
}

// NewSpace makes one, with page tables at pgd, or with empty ones where that is 0.
func (g *Guest) NewSpace(pgd vmi.VirtAddr) *Space {
	g.t.Helper()
	if pgd == 0 {
		pgd = g.AllocRoot()
	}
	s := &Space{Addr: g.Alloc(), PGD: pgd, Root: g.Phys(pgd)}
	g.Set(s.Addr, "mm_struct.pgd", uint64(s.PGD))
	return s
}

// Map has the space have a frame at va.
func (g *Guest) Map(s *Space, va vmi.VirtAddr, gfn xen.GFN) {
	g.t.Helper()
	binary.LittleEndian.PutUint64(g.entry(s, va), uint64(gfn)<<xen.PageShift|7)
}

// Unmap ends that.
func (g *Guest) Unmap(s *Space, va vmi.VirtAddr) {
	g.t.Helper()
	clear(g.entry(s, va))
}

// entry is that of va in the lowest table.
func (g *Guest) entry(s *Space, va vmi.VirtAddr) []byte {
	g.t.Helper()
	const present = 1
	table, err := g.Page(s.Root.GFN())
	for level := 3; ; level-- {
		if err != nil {
			g.t.Fatal(err)
		}
		i := va >> (xen.PageShift + 9*level) & 511
		e := table[8*i:][:8]
		if level == 0 {
			return e
		}
		if binary.LittleEndian.Uint64(e)&present == 0 {
			next := g.Alloc()
			clear(g.Bytes(next))
			binary.LittleEndian.PutUint64(e, uint64(g.Phys(next))|7)
		}
		table, err = g.Page(xen.GFN(binary.LittleEndian.Uint64(e) >> xen.PageShift))
	}
}

// Signal is a signal_struct, which a process's threads share.
type Signal struct {
	Addr          vmi.VirtAddr
	Live, Threads int
}

// Thread is a task_struct.
type Thread struct {
	Addr      vmi.VirtAddr
	PID, TGID int32
	Space     *Space
	Signal    *Signal
}

// NewThread makes the main thread of a process, or one more of the process of main.
// With no space it is the kernel's.
func (g *Guest) NewThread(pid int32, main *Thread, s *Space, comm string) *Thread {
	g.t.Helper()
	th := &Thread{Addr: g.Alloc(), PID: pid, TGID: pid, Space: s}
	clear(g.Bytes(th.Addr))
	head := g.Offset("signal_struct.thread_head")
	if main != nil {
		th.TGID, th.Signal, th.Space = main.TGID, main.Signal, main.Space
	} else {
		th.Signal = &Signal{Addr: g.Alloc()}
		g.point(th.Signal.Addr+head, th.Signal.Addr+head)
		tasks := g.Offset("task_struct.tasks")
		g.link(th.Addr+tasks, g.Symbol("init_task")+tasks)
	}
	g.link(th.Addr+g.Offset("task_struct.thread_node"), th.Signal.Addr+head)
	th.Signal.Threads++
	g.SetLive(th.Signal, th.Signal.Live+1)
	g.Set(th.Addr, "task_struct.pid", uint64(th.PID))
	g.Set(th.Addr, "task_struct.tgid", uint64(th.TGID))
	g.Set(th.Addr, "task_struct.signal", uint64(th.Signal.Addr))
	copy(g.Member(th.Addr, "task_struct.comm"), comm+"\x00")
	g.SetSpace(th, th.Space)
	return th
}

// SetLive sets how many threads of a process have not begun to exit.
func (g *Guest) SetLive(s *Signal, n int) {
	g.t.Helper()
	s.Live = n
	g.Set(s.Addr, "signal_struct.live.counter", uint64(n))
}

// SetSpace gives a thread another space, or none. Who used the former one is not
// changed.
func (g *Guest) SetSpace(th *Thread, s *Space) {
	g.t.Helper()
	th.Space = s
	mm := vmi.VirtAddr(0)
	if s != nil {
		s.Users++
		mm = s.Addr
	}
	g.Set(th.Addr, "task_struct.mm", uint64(mm))
}

// Reap takes a thread off the kernel's lists, and frees what it had but its space.
func (g *Guest) Reap(th *Thread) {
	g.t.Helper()
	g.unlink(th.Addr + g.Offset("task_struct.thread_node"))
	if th.PID == th.TGID {
		g.unlink(th.Addr + g.Offset("task_struct.tasks"))
	}
	g.Free(th.Addr)
	if th.Signal.Threads--; th.Signal.Threads == 0 {
		g.Free(th.Signal.Addr)
	}
}

// Lists, by the addresses of their nodes.
func (g *Guest) link(node, head vmi.VirtAddr) {
	last := vmi.VirtAddr(binary.LittleEndian.Uint64(g.Bytes(head + 8)))
	g.point(last, node)
	g.point(node, head)
}

func (g *Guest) point(from, to vmi.VirtAddr) {
	binary.LittleEndian.PutUint64(g.Bytes(from), uint64(to))
	binary.LittleEndian.PutUint64(g.Bytes(to+8), uint64(from))
}

func (g *Guest) unlink(node vmi.VirtAddr) {
	next, last := binary.LittleEndian.Uint64(g.Bytes(node)), binary.LittleEndian.Uint64(g.Bytes(node+8))
	g.point(vmi.VirtAddr(last), vmi.VirtAddr(next))
}

// SetCurrent has the first vCPU's kernel run a thread, and returns its GS base.
func (g *Guest) SetCurrent(th vmi.VirtAddr) (gsBase vmi.VirtAddr) {
	g.t.Helper()
	base, err := g.Kernel.AddressSpace().Uint64(g.Symbol("__per_cpu_offset"))
	if err != nil {
		g.t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(g.Bytes(vmi.VirtAddr(base)+g.Symbol("current_task")), uint64(th))
	return vmi.VirtAddr(base)
}
