package wire

// Variables of the environment of every job.
const (
	// LaneVar names the lane: vmx or svm.
	LaneVar = "GOVMI_LAB_LANE"
	// XenVar says which hypervisor runs: XenDebian, XenPatched or XenOther.
	XenVar = "GOVMI_LAB_XEN"
)

// Values of XenVar.
const (
	XenDebian  = "debian"  // the suite's own
	XenPatched = "patched" // that with the patches of this module
	XenOther   = "other"   // a file that the user named
)
