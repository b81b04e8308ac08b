package wire

// Variables of the environment of every job.
const (
	// LaneVar names the lane: vmx or svm.
	LaneVar = "GOVMI_LAB_LANE"
	// XenVar says which hypervisor runs: XenDebian, XenPatched, XenFlask or XenOther.
	XenVar = "GOVMI_LAB_XEN"
)

// Values of XenVar.
const (
	XenDebian  = "debian"  // the suite's own
	XenPatched = "patched" // that with the patches of this module
	XenFlask   = "flask"   // the suite's release with FLASK, enforcing the policy of this module
	XenOther   = "other"   // a file that the user named
)
