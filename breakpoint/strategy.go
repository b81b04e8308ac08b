package breakpoint

import "fmt"

// Strategy is where breakpoints are and how a vCPU gets past one.
type Strategy uint8

// The strategies. Whichever it is, an instruction that does nothing is skipped.
const (
	// Automatic is ViewByInstruction, or PatchedByte where there are no views. No
	// engine has it, see [Engine.Strategy].
	Automatic Strategy = iota
	// ViewByInstruction is ViewFastStep, and ViewEmulate for instructions that the
	// processor cannot execute alone.
	ViewByInstruction
	// ViewFastStep has them in an altp2m view. The vCPU executes the instruction in
	// a view without breakpoints, and Xen itself switches it back: one trip through
	// the ring.
	ViewFastStep
	// ViewEmulate has them in a view, and Xen emulates the instruction: one trip.
	ViewEmulate
	// ViewTwoTrips is as ViewFastStep, but a second event brings the vCPU back.
	ViewTwoTrips
	// PatchedByte has them in the guest's own frames, and Xen emulates the
	// instruction: one trip.
	PatchedByte
)

// Views reports whether the strategy needs altp2m views.
func (s Strategy) Views() bool { return s >= ViewByInstruction && s <= ViewTwoTrips }

func (s Strategy) String() string {
	switch s {
	case Automatic:
		return "automatic"
	case ViewByInstruction:
		return "altp2m view, fast single-step or emulation"
	case ViewFastStep:
		return "altp2m view, fast single-step"
	case ViewEmulate:
		return "altp2m view, emulation"
	case ViewTwoTrips:
		return "altp2m view, single-step in two trips"
	case PatchedByte:
		return "patched byte, emulation"
	}
	return fmt.Sprintf("strategy %d", uint8(s))
}

// way is how a vCPU gets past one instruction.
type way uint8

const (
	skip way = iota // RIP is set behind it
	emulate
	fastStep
	twoTrips
)

// over returns the way past an instruction. The error is that of the instruction
// if there is none.
func (s Strategy) over(in *instruction) (way, error) {
	steps := s.Views() && s != ViewEmulate
	switch {
	case in.idle:
		return skip, nil
	case steps && in.steps == nil && s == ViewTwoTrips:
		return twoTrips, nil
	case steps && in.steps == nil:
		return fastStep, nil
	case in.emulates == nil && (s == ViewByInstruction || !steps):
		return emulate, nil
	case steps:
		return 0, in.steps
	}
	return 0, in.emulates
}
