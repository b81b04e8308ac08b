package breakpoint

import "fmt"

// Strategy is where breakpoints are and how a vCPU gets past one.
type Strategy uint8

// The strategies. Whichever it is, an instruction that does nothing is skipped.
const (
	// Automatic is ViewByInstruction, or PatchedByte where there are no views. No
	// engine has it, see [Engine.Strategy].
	Automatic Strategy = iota
	// ViewByInstruction is ViewEmulate for instructions that compilers begin
	// functions with, and ViewFastStep for others.
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
		return "altp2m view, emulation or fast single-step"
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
	switch {
	case in.idle:
		return skip, nil
	case in.emulates == nil && s != ViewFastStep && s != ViewTwoTrips:
		return emulate, nil
	case s == ViewEmulate, s == PatchedByte:
		return 0, in.emulates
	case in.steps != nil:
		return 0, in.steps
	case s == ViewTwoTrips:
		return twoTrips, nil
	}
	return fastStep, nil
}
