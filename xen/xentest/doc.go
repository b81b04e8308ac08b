// Package xentest is a fake hypervisor for tests of programs that use package
// xen. It answers the kernel's Xen devices, ioctl by ioctl, so that all of
// package xen runs in the test as it does in dom0: guest frames are real shared
// memory, an event is a request in a real ring page, and its answer is what Xen
// would read there.
//
// A test makes a [Xen], adds guests to it, and gives its Options to [xen.Open]:
//
//	x := xentest.New(nil)
//	g := x.AddDomain(&xentest.DomainConfig{ID: 1, Name: "guest"})
//	h, err := xen.Open(x.Options())
//
// The test then plays the guest, by writing its memory ([Domain.SetPage]) and
// registers ([Domain.SetRegisters]) and by causing events ([Domain.Trap]), and
// plays fate: [Xen.FailCall] has the n'th call fail, [Xen.Dying] and
// [Xen.KillProcesses] end the monitor as kill -9 does, [Domain.Destroy] the guest.
//
// [Xen.Close] tells what the program left behind, and whether it did what a
// real Xen, or its guest, would not have survived. No test should end without.
//
// There is no guest code: nothing is executed, and nothing happens that the test
// does not cause. Operations that need state of the guest which the fake does
// not have fail as on a Xen that lacks them.
//
// The fake needs Linux on a 64-bit little-endian machine, not Xen and not root;
// elsewhere the package is empty, so tests that use it are in files named
// *_linux_test.go. All methods may be called from several goroutines.
package xentest
