package labtest

import (
	"os"

	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/wire"
)

// VMX reports whether the lane is that of the emulated Intel processor, where
// Xen has altp2m and single-stepping, and guests one vCPU.
func VMX() bool { return os.Getenv(wire.LaneVar) == "vmx" }

// Ordinary is the guest that most tests share: with one vCPU, its kernel at a
// random address, and altp2m where there is any.
func Ordinary() guest.Spec { return guest.Spec{KASLR: true, AltP2M: VMX()} }
