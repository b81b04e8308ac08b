package linux

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// row is what ps would print of a task.
type row struct {
	PID, TGID int32
	Comm      string
	Root      vmi.CR3
	Err       string
}

func rows(t *testing.T, seq func(func(Task, error) bool)) (got []row) {
	t.Helper()
	for task, err := range seq {
		if err != nil {
			return append(got, row{Err: err.Error()})
		}
		pid, err1 := task.PID()
		tgid, err2 := task.TGID()
		comm, err3 := task.Comm()
		root, err4 := task.Root()
		if errors.Is(err4, ErrNoMM) {
			err4 = nil
		}
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		got = append(got, row{PID: pid, TGID: tgid, Comm: comm.String(), Root: root})
	}
	return got
}

func TestTasks(t *testing.T) {
	g := newTestGuest(t, guestOptions{})
	k := g.open(t)
	task := func(pid int32) Task {
		task, err := k.TaskByPID(pid)
		if err != nil {
			t.Fatal(err)
		}
		return task
	}
	root2, err := task(77).Root()
	if err != nil || root2 == vmi.CR3(g.root) {
		t.Errorf("Root = %v, %v", root2, err)
	}
	processes := []row{
		{PID: 1, TGID: 1, Comm: "init", Root: vmi.CR3(g.root)},
		{PID: 2, TGID: 2, Comm: "kthreadd"},
		{PID: 77, TGID: 77, Comm: "fifteen-letters", Root: root2},
	}
	if d := cmp.Diff(processes, rows(t, k.Tasks())); d != "" {
		t.Error(d)
	}
	worker := row{PID: 78, TGID: 77, Comm: "worker"}
	if d := cmp.Diff(append(processes, worker), rows(t, k.Threads())); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]row{processes[2], worker}, rows(t, k.ThreadsOf(task(78)))); d != "" {
		t.Error(d)
	}
	for range k.Threads() {
		break // must not go on
	}

	if got := task(78).Addr; got != g.thread {
		t.Errorf("TaskByPID(78) = %v", got)
	}
	if leader, err := task(78).GroupLeader(); err != nil || leader.Addr != g.proc2 {
		t.Errorf("GroupLeader = %v, %v", leader.Addr, err)
	}
	if n, err := task(78).Alive(); err != nil || n != 2 {
		t.Errorf("Alive = %d, %v, want 2", n, err)
	}
	if same, err := k.TaskAt(g.thread); err != nil || same != task(78) {
		t.Errorf("TaskAt = %v, %v", same, err)
	}
	if _, err := k.TaskAt(0x400000); !errors.Is(err, ErrCorrupt) {
		t.Errorf("TaskAt of a user address: %v", err)
	}
	if _, err := task(2).Root(); !errors.Is(err, ErrNoMM) {
		t.Errorf("Root of a kernel thread: %v", err)
	}
	for _, pid := range []int32{0, -1, 79} {
		if _, err := k.TaskByPID(pid); !errors.Is(err, ErrNoTask) {
			t.Errorf("TaskByPID(%d): %v", pid, err)
		}
	}
	for name, want := range map[string]vmi.VirtAddr{"init": g.proc1, "fifteen-letters": g.proc2, "fifteen-letters-and-more": g.proc2} {
		got, err := k.TasksByComm(name)
		if err != nil || len(got) != 1 || got[0].Addr != want {
			t.Errorf("TasksByComm(%q) = %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "ini", "init2", "worker", "fifteen-letter"} {
		if got, err := k.TasksByComm(name); !errors.Is(err, ErrNoTask) {
			t.Errorf("TasksByComm(%q) = %v, %v", name, got, err)
		}
	}
}

func TestTaskListsThatAreCorrupt(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(g *testGuest)
		want error
	}{
		{"to itself", func(g *testGuest) { g.put(g.kthread+oTasks, g.kthread+oTasks) }, ErrCorrupt},
		{"back to the first", func(g *testGuest) { g.put(g.proc2+oTasks, g.proc1+oTasks) }, ErrCorrupt},
		{"zero", func(g *testGuest) { g.put(g.kthread+oTasks, uint64(0)) }, ErrCorrupt},
		{"user address", func(g *testGuest) { g.put(g.kthread+oTasks, uint64(0x400000)) }, ErrCorrupt},
		{"not aligned", func(g *testGuest) { g.put(g.kthread+oTasks, g.proc2+oTasks+1) }, ErrCorrupt},
		{"not mapped", func(g *testGuest) { g.put(g.kthread+oTasks, uint64(0xffffc90000000000)) }, vmi.ErrNotPresent},
		{"frame missing", func(g *testGuest) { g.put(g.kthread+oTasks, virt(0x3f000000)) }, vmi.ErrNotMapped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newTestGuest(t, guestOptions{})
			k := g.open(t)
			tt.edit(g)
			var last error
			n := 0
			for _, err := range k.Tasks() {
				if n++; n > 100 {
					t.Fatal("the walk does not end")
				}
				last = err
			}
			if !errors.Is(last, tt.want) {
				t.Errorf("walk ends with %v, want %v", last, tt.want)
			}
			if _, err := k.TaskByPID(9999); !errors.Is(err, tt.want) {
				t.Errorf("TaskByPID: %v", err)
			}
			if _, err := k.TasksByComm("nobody"); !errors.Is(err, tt.want) {
				t.Errorf("TasksByComm: %v", err)
			}
		})
	}
}

func TestThreadListThatIsCorrupt(t *testing.T) {
	g := newTestGuest(t, guestOptions{})
	k := g.open(t)
	g.put(g.thread+oThreadNode, g.thread+oThreadNode)
	var last error
	for _, err := range k.Threads() {
		last = err
	}
	if !errors.Is(last, ErrCorrupt) {
		t.Errorf("walk ends with %v", last)
	}
}

func TestCurrentTask(t *testing.T) {
	g := newTestGuest(t, guestOptions{})
	k := g.open(t)
	const user = 0x7f0000001000
	kernelGS, otherCPU := uint64(g.cpu0), uint64(g.cpu0+0x100000)
	g.Write(vmi.PhysAddr(otherCPU-uint64(directMap))+currentTask, make([]byte, 8))
	g.put(vmi.VirtAddr(otherCPU)+currentTask, g.proc2)
	for _, tt := range []struct {
		name       string
		cpl        uint16
		rip        uint64
		gs, shadow uint64
		want       vmi.VirtAddr
		err        error
	}{
		{"kernel", 0, uint64(kernelText), kernelGS, user, g.proc1, nil},
		{"other CPU", 0, uint64(kernelText), otherCPU, user, g.proc2, nil},
		{"user", 3, 0x400000, user, kernelGS, g.proc1, nil},
		{"before SWAPGS", 0, uint64(testEntry), user, kernelGS, g.proc1, nil},
		{"after SWAPGS on the way out", 0, uint64(testEntry) + 0x100, user, kernelGS, g.proc1, nil},
		{"user imitates the kernel", 3, 0x400000, otherCPU, kernelGS, g.proc1, nil},
		{"user imitates the kernel, at the entry", 0, uint64(testEntry), otherCPU, kernelGS, g.proc1, nil},
		{"neither", 0, uint64(kernelText), user, 0, 0, ErrNotInKernel},
		{"kernel addresses of no CPU", 0, uint64(kernelText), kernelGS + 8, kernelGS - 8, 0, ErrNotInKernel},
	} {
		r := g.regs[0]
		r.SS.Access, r.RIP, r.GS.Base, r.ShadowGS = tt.cpl<<5, tt.rip, tt.gs, tt.shadow
		got, err := k.CurrentTask(&r)
		if got.Addr != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: CurrentTask = %v, %v, want %v, %v", tt.name, got.Addr, err, tt.want, tt.err)
		}
	}
	g.put(g.cpu0+currentTask, uint64(0x1234))
	if _, err := k.CurrentTask(&g.regs[0]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("CurrentTask with a bad pointer: %v", err)
	}
}

// In user mode a vCPU's task is told by what its registers were in the kernel.
func TestCurrentTaskOn(t *testing.T) {
	g := newTestGuest(t, guestOptions{})
	g.regs[1].GS.Base, g.regs[1].ShadowGS = 0, 0
	k := g.open(t)
	const user = 0x7f0000001000
	kernelGS, otherCPU := uint64(g.cpu0), uint64(g.cpu0+0x100000)
	g.Write(vmi.PhysAddr(otherCPU-uint64(directMap))+currentTask, make([]byte, 8))
	g.put(vmi.VirtAddr(otherCPU)+currentTask, g.proc2)
	for _, tt := range []struct {
		name       string
		vcpu       xen.VCPU
		cpl        uint16
		gs, shadow uint64
		want       vmi.VirtAddr
		err        error
	}{
		{"user, as the vCPU was at first", 0, 3, user, 0, g.proc1, nil},
		{"user imitates another CPU", 0, 3, otherCPU, 0, g.proc1, nil},
		{"a vCPU of which nothing is known", 1, 3, user, 0, 0, ErrNotInKernel},
		{"user", 1, 3, user, kernelGS, g.proc1, nil},
		{"user is not learnt from", 1, 3, user, 0, 0, ErrNotInKernel},
		{"kernel", 1, 0, otherCPU, user, g.proc2, nil},
		{"user, as the kernel was", 1, 3, user, 0, g.proc2, nil},
		{"a vCPU that Linux does not know", 1 << 20, 0, kernelGS, user, g.proc1, nil},
	} {
		r := g.regs[0]
		r.SS.Access, r.RIP, r.GS.Base, r.ShadowGS = tt.cpl<<5, uint64(kernelText), tt.gs, tt.shadow
		got, err := k.CurrentTaskOn(tt.vcpu, &r)
		if got.Addr != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, %v, want %v, %v", tt.name, got.Addr, err, tt.want, tt.err)
		}
	}
}

func TestTaskReadersDoNotAllocate(t *testing.T) {
	g := newTestGuest(t, guestOptions{kpti: true})
	k := g.open(t)
	read := func() {
		task, err := k.CurrentTask(&g.regs[1])
		pid, err1 := task.PID()
		tgid, err2 := task.TGID()
		comm, err3 := task.Comm()
		root, err4 := task.Root()
		leader, err5 := task.GroupLeader()
		if err != nil || err1 != nil || err2 != nil || err3 != nil || err4 != nil || err5 != nil {
			t.Fatal(err, err1, err2, err3, err4, err5)
		}
		if pid != 1 || tgid != 1 || !comm.Is("init") || root != vmi.CR3(g.root) || leader != task {
			t.Fatal("wrong task", pid, tgid, comm, root, leader)
		}
	}
	read()
	calls := g.Stats().Calls
	if n := testing.AllocsPerRun(100, read); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := g.Stats().Calls; n != calls {
		t.Errorf("warm reads mapped %d times", n-calls)
	}
}

func TestRootThatIsCorrupt(t *testing.T) {
	g := newTestGuest(t, guestOptions{})
	k := g.open(t)
	task, err := k.TaskByPID(1)
	if err != nil {
		t.Fatal(err)
	}
	mm := g.read(g.proc1 + oMM)
	g.put(mm+oPGD, virt(g.root)+8)
	if root, err := task.Root(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Root = %v, %v", root, err)
	}
	g.put(mm+oPGD, uint64(0))
	if root, err := task.Root(); !errors.Is(err, vmi.ErrNotPresent) {
		t.Errorf("Root = %v, %v", root, err)
	}
}

func TestComm(t *testing.T) {
	full := Comm([]byte("0123456789abcdef"))
	if got := full.String(); got != "0123456789abcdef" { // not terminated: a corrupt guest's
		t.Errorf("String = %q", got)
	}
	if full.Is("0123456789abcde") {
		t.Error("a name without end is equal to its first 15 bytes")
	}
}

// FuzzTasks overwrites the tasks' memory.
func FuzzTasks(f *testing.F) {
	f.Add(uint32(0), []byte{1})
	f.Add(uint32(oTasks), []byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(uint32(oSignal), []byte{0xff})
	g := newTestGuest(f, guestOptions{})
	k := g.open(f)
	const size = 0x1000
	start := vmi.PhysAddr(g.proc1 - directMap)
	good := make([]byte, size)
	if _, err := g.mem.ReadAt(good, start); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		defer g.Write(start, good)
		at %= size
		p := append([]byte(nil), good...)
		for i, b := range patch {
			p[(int(at)+i)%size] ^= b
		}
		g.Write(start, p)
		n := 0
		for task, err := range k.Threads() {
			if n++; n > 1000 {
				t.Fatal("the walk does not end")
			}
			if err != nil {
				continue
			}
			_, _ = task.PID()
			_, _ = task.Comm()
			_, _ = task.Root()
			_, _ = task.GroupLeader()
		}
		_, _ = k.CurrentTask(&g.regs[0])
	})
}

// BenchmarkCurrentTask finds the process that a vCPU runs, as for every event.
func BenchmarkCurrentTask(b *testing.B) {
	g := newTestGuest(b, guestOptions{})
	k := g.open(b)
	b.ReportAllocs()
	for b.Loop() {
		t, err := k.CurrentTask(&g.regs[0])
		if err != nil {
			b.Fatal(err)
		}
		if _, err := t.TGID(); err != nil {
			b.Fatal(err)
		}
	}
}
