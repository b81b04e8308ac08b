package labtest

import "os"

// SoakVar has tests run their long form: `make soak` sets it.
const SoakVar = "GOVMI_SOAK"

// Count returns how often a test does what its long form does full times: that
// often in a soak run, a tenth of it otherwise.
func Count(full int) int {
	if os.Getenv(SoakVar) != "" {
		return full
	}
	return max(1, full/10)
}
