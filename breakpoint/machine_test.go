package breakpoint

import (
	"fmt"
	"maps"
	"slices"

	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/xen"
)

// machine is a guest with altp2m whose vCPUs execute, by Xen's rules as they are in
// p2m.c, mem_access.c, hvm/monitor.c and vm_event.c: what a view shows and allows, what
// is an event, and what an answer does when. Everything happens in the order that
// the test chooses.
type machine struct {
	pages    map[xen.GFN][]byte
	last     xen.GFN // of the guest's memory
	on       bool
	views    map[xen.View]map[xen.GFN]entry
	access   map[xen.GFN]xen.Access // in the domain's own p2m, if not all
	vcpus    []*vcpu
	ring     []*xen.Request
	handlers map[xen.Reason]xen.Handler
	paused   int
	mapped   int
	injected []xen.VCPU
	idle     func() // what goes on while somebody waits
	calls    []string
	fail     string // the call that fails
	wrong    []string
}

// entry is what a view has of its own at a frame.
type entry struct {
	gfn    xen.GFN
	access xen.Access
}

// vcpu executes instructions of one byte each: opStore writes its own number to
// data, opLoad reads from there, all others only count.
type vcpu struct {
	id      xen.VCPU
	rip     uint64
	view    xen.View
	waiting bool
	step    bool
	fast    bool
	after   xen.View // of a fast step
	insn    *[16]byte
	data    uint64 // guest-physical
	loaded  []byte
	done    []byte // what it has executed
	trapped uint64 // how often it ran into an int3
}

const (
	opLoad  = 0x8a
	opStore = 0x88
)

// template is what the memory of all machines begins with.
var template = newGuest()

func newMachine(vcpus int) *machine {
	m := &machine{
		pages: map[xen.GFN][]byte{}, last: 0x17,
		views: map[xen.View]map[xen.GFN]entry{}, access: map[xen.GFN]xen.Access{}, handlers: map[xen.Reason]xen.Handler{},
	}
	for gfn := tableGFN; gfn < tableGFN+4; gfn++ {
		m.pages[gfn] = template.memory[int(gfn)*xen.PageSize:][:xen.PageSize] // as it is, always
	}
	for gfn := textGFN; gfn < textGFN+textPages; gfn++ {
		m.pages[gfn] = slices.Clone(template.memory[int(gfn)*xen.PageSize:][:xen.PageSize])
	}
	for v := range vcpus {
		m.vcpus = append(m.vcpus, &vcpu{id: xen.VCPU(v), rip: uint64(textVA)})
	}
	return m
}

func (m *machine) text() []byte { return m.pages[textGFN] }

func (m *machine) space() vmi.AddressSpace {
	return vmi.NewMemory(m, nil).AddressSpace(vmi.CR3(tableGFN << xen.PageShift))
}

func (m *machine) call(format string, args ...any) error {
	c := fmt.Sprintf(format, args...)
	m.calls = append(m.calls, c)
	if c == m.fail {
		return errRefused
	}
	return nil
}

func (m *machine) Info() (xen.DomainInfo, error) {
	return xen.DomainInfo{MaxVCPU: xen.VCPU(len(m.vcpus) - 1)}, m.call("info")
}

func (m *machine) AltP2M() (bool, error) { return m.on, m.call("state") }

func (m *machine) SetAltP2M(on bool) error {
	if err := m.call("altp2m %v", on); err != nil {
		return err
	}
	m.on = on
	clear(m.views)
	for _, v := range m.vcpus {
		v.view = 0
	}
	if on {
		m.views[0] = map[xen.GFN]entry{}
	}
	return nil
}

func (m *machine) CreateView() (xen.View, error) {
	v := xen.View(len(m.views))
	if err := m.call("create"); err != nil {
		return 0, err
	}
	m.views[v] = map[xen.GFN]entry{}
	return v, nil
}

func (m *machine) SwitchView(to xen.View) error {
	for _, v := range m.vcpus {
		v.view = to
	}
	return m.call("switch %d", to)
}

func (m *machine) VCPUView(v xen.VCPU) (xen.View, error) { return m.vcpus[v].view, nil }

// entry is what a view shows, and takes over when it first does.
func (m *machine) entry(v xen.View, gfn xen.GFN) entry {
	if e, ok := m.views[v][gfn]; ok {
		return e
	}
	e := entry{gfn, xen.AccessRWX}
	if a, ok := m.access[gfn]; ok {
		e.access = a
	}
	if m.pages[gfn] != nil && m.on {
		m.views[v][gfn] = e
	}
	return e
}

func (m *machine) ChangeGFN(v xen.View, from, to xen.GFN) error {
	if err := m.call("view %d: %v -> %v", v, from, to); err != nil {
		return err
	}
	m.views[v][from] = m.entry(v, to)
	return nil
}

func (m *machine) ResetGFN(v xen.View, gfn xen.GFN) error {
	delete(m.views[v], gfn)
	return m.call("view %d: %v reset", v, gfn)
}

func (m *machine) SetViewAccess(v xen.View, gfn xen.GFN, a xen.Access) error {
	if err := m.call("view %d: %v %v", v, gfn, a); err != nil {
		return err
	}
	m.views[v][gfn] = entry{m.entry(v, gfn).gfn, a}
	return nil
}

func (m *machine) SetOwnAccess(gfn xen.GFN, a xen.Access) error {
	if err := m.call("own: %v %v", gfn, a); err != nil {
		return err
	}
	m.access[gfn] = a
	for _, view := range m.views {
		if _, ok := view[gfn]; ok {
			view[gfn] = entry{gfn, a}
		}
	}
	return nil
}

func (m *machine) MaximumGPFN() (xen.GFN, error) { return m.last, m.call("maximum") }

func (m *machine) Populate(gfn xen.GFN) error {
	if err := m.call("populate %v", gfn); err != nil {
		return err
	}
	m.pages[gfn] = make([]byte, xen.PageSize)
	return nil
}

func (m *machine) RemoveFrame(gfn xen.GFN) error {
	if m.on && m.fail == "" {
		m.wrong = append(m.wrong, fmt.Sprintf("frame %v removed while views may show it", gfn))
	}
	return m.call("remove %v", gfn)
}

func (m *machine) InjectBreakpoint(v xen.VCPU, _ uint8) error {
	m.injected = append(m.injected, v)
	m.vcpus[v].rip++ // the guest's handler has dealt with it
	return nil
}

func (m *machine) Pause() error { m.paused++; return nil }

// Unpause lets vCPUs on, so that steps that somebody waits for end.
func (m *machine) Unpause() error {
	if m.paused--; m.paused == 0 {
		if m.idle != nil {
			m.idle()
		}
	}
	return nil
}

// endSteps lets vCPUs on until none steps.
func (m *machine) endSteps(run func(v *vcpu), answer func()) {
	for _, v := range m.vcpus {
		for v.step {
			if v.waiting {
				answer()
			} else {
				run(v)
			}
		}
	}
}

type machineFrames struct {
	m    *machine
	gfns []xen.GFN
}

func (m *machine) MapFrames(gfns []xen.GFN, writable bool) (vmi.Frames, error) {
	f := &machineFrames{gfns: gfns}
	if writable {
		f.m = m
		m.mapped++
	}
	return &machineMapping{f, m}, nil
}

// machineMapping counts those that can be written.
type machineMapping struct {
	*machineFrames
	pages *machine
}

func (f *machineFrames) Len() int { return len(f.gfns) }

func (f *machineMapping) Frame(i int) ([]byte, error) {
	page := f.pages.pages[f.gfns[i]]
	if page == nil {
		return nil, fmt.Errorf("no frame %v", f.gfns[i])
	}
	return page, nil
}

func (f *machineFrames) Close() error {
	if f.m != nil {
		f.m.mapped--
	}
	f.m = nil
	return nil
}

// gfnOf is the guest's page tables.
func gfnOf(rip uint64) xen.GFN { return textGFN + xen.GFN((rip-uint64(textVA))/xen.PageSize) }

func allows(a xen.Access, x, w bool) bool {
	switch {
	case x:
		return a == xen.AccessX || a == xen.AccessRX || a == xen.AccessRWX
	case w:
		return a == xen.AccessRW || a == xen.AccessRWX
	}
	return a != xen.AccessN && a != xen.AccessX
}

// event has the vCPU wait for an answer.
func (m *machine) event(v *vcpu, r *xen.Request) {
	r.VCPU, r.View, r.Regs.RIP, r.Flags = v.id, v.view, v.rip, xen.FlagVCPUPaused|xen.FlagAlternateP2M
	v.waiting = true
	m.ring = append(m.ring, r)
}

// run lets a vCPU that does not wait execute one instruction, or try to.
func (m *machine) run(v *vcpu) {
	if insn := v.insn; insn != nil { // emulated, past the views
		v.insn = nil
		m.execute(v, insn[0], true)
		return
	}
	gfn := gfnOf(v.rip)
	e := m.entry(v.view, gfn)
	if !allows(e.access, true, false) {
		m.event(v, &xen.Request{Reason: xen.ReasonMemAccess, Access: xen.MemAccess{GFN: gfn, Execute: true}})
		return
	}
	op := m.pages[e.gfn][v.rip%xen.PageSize]
	if op == int3 {
		v.trapped++
		m.event(v, &xen.Request{Reason: xen.ReasonSoftwareBreakpoint, Breakpoint: xen.SoftwareBreakpoint{GFN: gfn, InsnLength: 1}})
		return
	}
	if !m.execute(v, op, false) || !v.step {
		return
	}
	if v.fast {
		v.view, v.step, v.fast = v.after, false, false
		return
	}
	m.event(v, &xen.Request{Reason: xen.ReasonSingleStep})
}

// execute reports false if the instruction's access is an event.
func (m *machine) execute(v *vcpu, op byte, past bool) bool {
	if op == opLoad || op == opStore {
		gfn := xen.GFN(v.data / xen.PageSize)
		e := m.entry(v.view, gfn)
		if past {
			e = entry{gfn, xen.AccessRWX}
		}
		if !allows(e.access, false, op == opStore) {
			m.event(v, &xen.Request{Reason: xen.ReasonMemAccess, Access: xen.MemAccess{
				GFN: gfn, Offset: v.data % xen.PageSize, Read: true, Write: op == opStore,
			}})
			return false
		}
		at := &[]byte{noMemory}[0]
		if page := m.pages[e.gfn]; page != nil {
			at = &page[v.data%xen.PageSize]
		}
		if op == opLoad {
			v.loaded = append(v.loaded, *at)
		} else {
			*at = byte(v.id) + 1
		}
	}
	v.done = append(v.done, op)
	v.rip++
	return true
}

// answer has the oldest request answered.
func (m *machine) answer() {
	r := m.ring[0]
	m.ring = m.ring[1:]
	v := m.vcpus[r.VCPU]
	resp := m.handlers[r.Reason](r)
	if resp.Switch && m.views[resp.View] != nil {
		v.view = resp.View
	}
	switch resp.Step {
	case xen.ToggleStep:
		v.step = !v.step
		if v.fast {
			m.wrong = append(m.wrong, fmt.Sprintf("vCPU %d: a fast step and a toggle", v.id))
		}
	case xen.FastStep:
		if resp.Action == xen.EmulateInsn || resp.Action == xen.Emulate {
			m.wrong = append(m.wrong, fmt.Sprintf("vCPU %d: a fast step and emulation", v.id))
		}
		v.step, v.fast, v.after = true, true, resp.StepView
	}
	switch resp.Action {
	case xen.EmulateInsn:
		insn := resp.Insn
		v.insn = &insn
	case xen.SetRegisters:
		v.rip = resp.Regs.RIP
	}
	v.waiting = false
}

// settled runs everything there is to run, for tests that do not care in which order.
func (m *machine) settled(until func(v *vcpu) bool) {
	for n := 0; n < 1000; n++ {
		if len(m.ring) > 0 {
			m.answer()
			continue
		}
		busy := false
		for _, v := range m.vcpus {
			if !v.waiting && !until(v) {
				m.run(v)
				busy = true
			}
		}
		if !busy {
			return
		}
	}
	m.wrong = append(m.wrong, "it goes on for ever")
}

// state is all that what happens next depends on.
func (m *machine) state() string {
	s := ""
	for _, v := range m.vcpus {
		s += fmt.Sprintf("%d %x %d %v %v %v %d %v %d %d %v|", v.id, v.rip, v.view, v.waiting, v.step, v.fast, v.after, v.insn != nil, v.trapped, len(v.done), v.loaded)
	}
	for _, r := range m.ring {
		s += fmt.Sprintf("%d %d %d %x;", r.VCPU, r.Reason, r.View, r.Regs.RIP)
	}
	for _, gfn := range slices.Sorted(maps.Keys(m.pages)) {
		if gfn == textGFN || gfn > m.last {
			s += fmt.Sprintf("%x:%x", gfn, m.pages[gfn][0x100:0x108])
		}
	}
	return s
}
