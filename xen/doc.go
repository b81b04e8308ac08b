// Package xen speaks to the Xen hypervisor from a Linux control domain in
// pure Go: hypercalls and foreign memory through /dev/xen/privcmd, event
// channels through /dev/xen/evtchn, and the vm_event ring on top of both.
//
// The package follows Xen's own names and files (domctl, monitor, vm_event,
// altp2m). It holds no policy and knows nothing of the guest's operating
// system; package vmi does. Package xentest has a fake hypervisor, for tests of
// programs that use this package.
package xen
