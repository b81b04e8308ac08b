package labtest

import "os"

// SoakVar has tests run their long form: `make soak` sets it.
const SoakVar = "GOVMI_SOAK"

// Count returns how often a test does what its long form does full times: that
// often in a soak run, a tenth of it otherwise.
func Count(full int) int {
	if Soak() {
		return full
	}
	return max(1, full/10)
}

// Soak reports a soak run, in which tests go through everything that there is.
func Soak() bool { return os.Getenv(SoakVar) != "" }
