package breakpoint

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/govmi/govmi/xen"
)

// The model is two vCPUs that execute two instructions, of which the first has a
// breakpoint, and a monitor that answers them and meanwhile does what a script says.
// Each order in which that can happen is tried.
const (
	first  = 0x55 // push rbp
	second = 0x53 // push rbx
	at     = 0x104
)

// model is one run.
type model struct {
	m       *machine
	program []byte
	rounds  []int
	script  []move
	armed   bool // the breakpoint is in place
	engines []*Engine
	views   *Views
	b       *Breakpoint
	handler Handler
	home    []xen.View // where each vCPU is to be at the end
	hits    []int      // of each vCPU
	due     []due      // of each vCPU
	steps   int
	failed  error
}

// due is an execution of the first instruction that is under way.
type due struct {
	begun bool
	hit   bool // it is to be one
	loose bool // or not: its breakpoint was removed meanwhile
	got   int
}

// move is something that the monitor does besides answering.
type move struct {
	name string
	do   func(r *model) error
}

var (
	disarm = move{"disarm", func(r *model) error { r.armed = false; r.b.Disarm(); return nil }}
	arm    = move{"arm", func(r *model) error { r.armed = true; return r.b.Arm() }}
	remove = move{"remove", func(r *model) error {
		r.armed = false
		for i := range r.due {
			r.due[i].loose = true // on its way to nobody
		}
		return r.b.Remove()
	}}
	insert = move{"insert", func(r *model) (err error) {
		r.armed = true
		r.b, err = r.engines[0].Insert(r.m.space(), textVA+at, r.handler)
		return err
	}}
	leave = move{"switch to the guest's own view", func(r *model) error { return r.views.Switch(0) }}
	enter = move{"switch to the view", func(r *model) error { return r.views.Switch(r.engines[0].View()) }}
	share = move{"a second breakpoint comes and goes", func(r *model) error {
		b, err := r.engines[0].Insert(r.m.space(), textVA+at, quiet)
		if err != nil {
			return err
		}
		return b.Remove()
	}}
	write = move{"the guest writes next to it", func(r *model) error {
		r.m.text()[at+0x40] ^= 1
		for _, e := range r.engines {
			e.Refresh()
		}
		return nil
	}}
)

// scenario is where the vCPUs are.
type scenario struct {
	name    string
	foreign bool // the second is in a view of another engine with a breakpoint there
	own     bool // the second is in the guest's own view
	oneShot bool
	reads   bool // the second instruction reads the breakpoint's byte
	script  []move
}

var scenarios = []scenario{
	{name: "both hit it", script: []move{disarm, arm}},
	{name: "removed", script: []move{remove}},
	{name: "removed and inserted", script: []move{remove, insert}},
	{name: "shared", script: []move{share}},
	{name: "written to", script: []move{write}},
	{name: "one in the guest's own view", own: true, script: []move{disarm, arm}},
	{name: "one in a foreign view", foreign: true, script: []move{disarm, arm}},
	{name: "all switched", script: []move{leave, enter}},
	{name: "one-shot", oneShot: true},
	{name: "read by the guest", reads: true, script: []move{disarm, arm}},
}

func newModel(how Strategy, sc *scenario, rounds []int) (*model, error) {
	r := &model{m: newMachine(2), rounds: rounds, script: sc.script, armed: true, hits: make([]int, 2), due: make([]due, 2)}
	m := r.m
	r.program = []byte{first, second}
	if sc.reads {
		r.program[1] = opLoad
	}
	copy(m.text()[at:], r.program)
	for _, v := range m.vcpus {
		v.rip, v.data = uint64(textVA)+at, uint64(textGFN)*xen.PageSize+at
	}
	r.handler = func(q *xen.Request) xen.Response {
		r.hits[q.VCPU]++
		return xen.Response{}
	}
	o := &InsertOptions{OneShot: sc.oneShot}
	if how == PatchedByte {
		e := New(m, m)
		r.engines = []*Engine{e}
		m.handlers[xen.ReasonSoftwareBreakpoint], m.handlers[xen.ReasonSingleStep] = e.Handle, quiet
		var err error
		r.b, err = e.InsertWith(m.space(), textVA+at, r.handler, o)
		return r, err
	}
	s, err := OpenViews(m, m, &ViewsOptions{Strategy: how})
	if err != nil {
		return nil, err
	}
	r.views = s
	m.handlers[xen.ReasonMemAccess], m.handlers[xen.ReasonSingleStep] = s.HandleMemAccess, s.HandleSingleStep
	for range 2 {
		e, err := s.NewEngine(m)
		if err != nil {
			return nil, err
		}
		r.engines = append(r.engines, e)
	}
	m.handlers[xen.ReasonSoftwareBreakpoint] = func(q *xen.Request) xen.Response {
		if q.View == r.engines[1].View() {
			return r.engines[1].Handle(q)
		}
		return r.engines[0].Handle(q)
	}
	if r.b, err = r.engines[0].InsertWith(m.space(), textVA+at, r.handler, o); err != nil {
		return nil, err
	}
	if sc.foreign {
		if _, err := r.engines[1].Insert(m.space(), textVA+at, r.handler); err != nil {
			return nil, err
		}
	}
	if err := s.Switch(r.engines[0].View()); err != nil {
		return nil, err
	}
	m.idle = func() { m.endSteps(r.run, r.answer) }
	switch {
	case sc.foreign:
		m.vcpus[1].view = r.engines[1].View()
	case sc.own:
		m.vcpus[1].view = 0
	}
	for _, v := range m.vcpus {
		r.home = append(r.home, v.view)
	}
	return r, nil
}

// finished reports that a vCPU has executed all that it is to.
func (r *model) finished(v *vcpu) bool { return len(v.done) >= 2*r.rounds[v.id] }

// choices are what can happen next.
func (r *model) choices() (list []func()) {
	for _, v := range r.m.vcpus {
		if v.waiting || r.finished(v) && !v.step {
			continue
		}
		list = append(list, func() { r.run(v) })
	}
	if len(r.m.ring) > 0 {
		list = append(list, r.answer)
	}
	if len(r.script) > 0 {
		list = append(list, func() {
			next := r.script[0]
			r.script = r.script[1:]
			if err := next.do(r); err != nil {
				r.failed = fmt.Errorf("%s: %w", next.name, err)
			}
		})
	}
	return list
}

func (r *model) answer() {
	q := r.m.ring[0]
	before := r.hits[q.VCPU]
	r.m.answer()
	if got := r.hits[q.VCPU] - before; got > 0 {
		r.due[q.VCPU].got += got
	}
}

// run lets a vCPU on. An execution of the first instruction begins where the vCPU
// comes to it, and not at an answer; whether it is to be a hit is decided then.
func (r *model) run(v *vcpu) {
	n := len(v.done)
	if d := &r.due[v.id]; n%2 == 0 && !d.begun {
		*d = due{begun: true, hit: r.sees(v)}
	}
	if r.steps++; r.steps > 200 {
		r.failed = errors.New("it goes on for ever")
	}
	r.m.run(v)
	if len(v.done) == n {
		return
	}
	if n%2 != 0 {
		v.rip = uint64(textVA) + at // once more
		return
	}
	d := r.due[v.id]
	r.due[v.id] = due{}
	switch {
	case r.failed != nil:
	case d.got > 1 || d.got == 1 && !d.hit:
		r.failed = fmt.Errorf("vCPU %d: %d hits of one execution, which should be one: %v", v.id, d.got, d.hit)
	case d.got == 0 && d.hit && !d.loose && !r.b.oneShot:
		r.failed = fmt.Errorf("vCPU %d: a hit is lost", v.id)
	}
}

// sees reports whether the vCPU is to run into a breakpoint.
func (r *model) sees(v *vcpu) bool {
	armed := r.armed && (!r.b.oneShot || r.hits[0]+r.hits[1] == 0)
	if r.views == nil {
		return armed
	}
	switch v.view {
	case r.engines[0].View():
		return armed
	case r.engines[1].View():
		return true
	}
	return false
}

// check looks at the whole run.
func (r *model) check(sc *scenario) error {
	if r.failed != nil {
		return r.failed
	}
	for _, v := range r.m.vcpus {
		if want := bytes.Repeat(r.program, r.rounds[v.id]); !bytes.Equal(v.done, want) {
			return fmt.Errorf("vCPU %d executed % x, not % x", v.id, v.done, want)
		}
		if slices.ContainsFunc(v.loaded, func(b byte) bool { return b != first }) {
			return fmt.Errorf("vCPU %d reads % x", v.id, v.loaded)
		}
		if v.step || r.views != nil && v.view != r.home[v.id] {
			return fmt.Errorf("vCPU %d is left in view %d, stepping: %v", v.id, v.view, v.step)
		}
	}
	if len(r.m.injected) > 0 {
		return fmt.Errorf("the guest was given int3s that are not its own: %v", r.m.injected)
	}
	if len(r.m.wrong) > 0 {
		return errors.New(r.m.wrong[0])
	}
	if sc.oneShot && r.hits[0]+r.hits[1] != 1 {
		return fmt.Errorf("a one-shot has %v hits", r.hits)
	}
	if sc.own && r.hits[1] != 0 {
		return fmt.Errorf("%d hits from the guest's own view", r.hits[1])
	}
	for _, e := range r.engines {
		if err := e.Close(); err != nil {
			return err
		}
	}
	if r.views != nil {
		return r.views.Close()
	}
	return nil
}

// key is the state of the whole, so that what was seen is not gone through again.
func (r *model) key() string {
	k := fmt.Sprint(r.m.state(), r.hits, r.due, len(r.script), r.armed)
	if r.views != nil {
		k += fmt.Sprint(r.views.steps.of, r.views.steps.moved)
	}
	return k
}

// explore goes through all orders until one is wrong. tamper, if set, spoils the
// answers.
func explore(how Strategy, sc *scenario, rounds []int, tamper func(r *model, q *xen.Request, resp *xen.Response)) (runs int, err error) {
	seen := map[string]bool{}
	var path, width []int // what was chosen, and how many there were
	for {
		r, err := newModel(how, sc, rounds)
		if err != nil {
			return runs, err
		}
		if tamper != nil {
			for reason, h := range r.m.handlers {
				r.m.handlers[reason] = func(q *xen.Request) xen.Response {
					resp := h(q)
					tamper(r, q, &resp)
					return resp
				}
			}
		}
		known := false
		for depth := 0; r.failed == nil; depth++ {
			c := r.choices()
			if len(c) == 0 {
				break
			}
			if depth == len(path) {
				k := r.key()
				if known = seen[k]; known {
					break
				}
				seen[k] = true
				path, width = append(path, 0), append(width, len(c))
			}
			c[path[depth]]()
		}
		runs++
		if !known {
			if err := r.check(sc); err != nil {
				return runs, fmt.Errorf("order %d: %w", path[:min(len(path), 30)], err)
			}
		}
		for len(path) > 0 && path[len(path)-1]+1 == width[len(width)-1] {
			path, width = path[:len(path)-1], width[:len(width)-1]
		}
		if len(path) == 0 {
			return runs, nil
		}
		path[len(path)-1]++
	}
}

// Two vCPUs hit, step, arm, disarm, and are in foreign views, in every order: no hit
// is lost, none comes twice, and no byte is executed that is not the guest's.
func TestModel(t *testing.T) {
	for how := ViewByInstruction; how <= PatchedByte; how++ {
		t.Run(how.String(), func(t *testing.T) {
			for _, sc := range scenarios {
				if how == PatchedByte && (sc.foreign || sc.own || sc.reads || sc.name == "all switched") {
					continue // there are no views
				}
				n, err := explore(how, &sc, []int{2, 1}, nil)
				if err != nil {
					t.Errorf("%s: %v", sc.name, err)
				}
				t.Logf("%s: %d orders that differ", sc.name, n)
			}
		})
	}
}

// The model sees what is wrong.
func TestModelFinds(t *testing.T) {
	for _, tc := range []struct {
		name   string
		how    Strategy
		tamper func(r *model, q *xen.Request, resp *xen.Response)
	}{
		{"the vCPU does not come back", ViewFastStep, func(_ *model, _ *xen.Request, resp *xen.Response) { resp.StepView = 0 }},
		{"it does not leave", ViewFastStep, func(_ *model, q *xen.Request, resp *xen.Response) { resp.View = q.View }},
		{"it does not step", ViewFastStep, func(_ *model, _ *xen.Request, resp *xen.Response) { resp.Step = xen.NoStep }},
		{"it steps on", ViewTwoTrips, func(_ *model, q *xen.Request, resp *xen.Response) {
			if q.Reason == xen.ReasonSingleStep {
				resp.Step = xen.NoStep
			}
		}},
		{"it steps once only", ViewTwoTrips, func(_ *model, q *xen.Request, resp *xen.Response) {
			if q.Reason == xen.ReasonSingleStep {
				resp.Switch = false
			}
		}},
		{"another instruction is emulated", ViewEmulate, func(_ *model, _ *xen.Request, resp *xen.Response) { resp.Insn[0] = second }},
		// As debuggers do that know one thread.
		{"the byte is put back for a step", PatchedByte, func(r *model, q *xen.Request, resp *xen.Response) {
			text := &r.m.text()[at]
			if *text = int3; q.Reason == xen.ReasonSoftwareBreakpoint {
				*text = first
			}
			*resp = xen.Response{Step: xen.ToggleStep}
		}},
		{"none is", PatchedByte, func(_ *model, _ *xen.Request, resp *xen.Response) { resp.Action = xen.Continue }},
	} {
		if _, err := explore(tc.how, &scenario{}, []int{2, 2}, tc.tamper); err == nil {
			t.Errorf("%s: not seen", tc.name)
		} else {
			t.Logf("%s: %v", tc.name, err)
		}
	}
}
