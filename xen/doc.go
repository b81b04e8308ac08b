// Package xen speaks to the Xen hypervisor from a Linux control domain in
// pure Go: hypercalls and foreign memory through /dev/xen/privcmd, event
// channels through /dev/xen/evtchn, and the vm_event ring on top of both.
//
// The package follows Xen's own names and files (domctl, monitor, vm_event,
// altp2m). It holds no policy and knows nothing of the guest's operating
// system; package vmi does. Package xentest has a fake hypervisor, for tests of
// programs that use this package.
//
// # What there is
//
// [Open] gives a [Hypervisor], which knows its version, build, machine and
// security policy, lists domains and tells of those that come and go. A [Domain]
// is paused, its registers and context are read, its memory is mapped ([Frames])
// and added to, and it is given views (altp2m), in which single frames show other
// pages or allow less. A [Monitor] is a domain's monitor ring: it turns events on
// and off, and [Monitor.Serve] hands each [Request] to a [Handler], whose
// [Response] says how the vCPU goes on.
//
// # Releases
//
// One program serves Xen 4.14 to 4.22: the versions of Xen's interfaces are
// negotiated when it is opened, and what a hypervisor, a processor or a domain
// lacks is an error that matches [ErrNotSupported] when it is asked for. Each
// [Error] says what to do about it.
//
// # Elsewhere than in dom0
//
// With a security policy (FLASK) that allows it a PV domain that is not dom0
// monitors others: the module in this module's folder policy lets it, and says
// how. [Hypervisor.Policy] tells whether there is a policy, and what it denies
// matches [ErrPermission] with the errno EACCES. XenStore tells such a domain
// neither names nor start times of others.
//
// # What cannot be done
//
// Operations that a host or a guest does not survive are not there, or refused:
// events that crash some releases, access that no processor knows, answers that
// have the guest execute one instruction for ever, a ring that is set up twice,
// a page in another's place, contexts that are set. Every request is answered
// exactly once, whatever ends Serve, and [Monitor.Close] leaves the guest as it
// was. What a monitor leaves behind that was killed, [Domain.RecoverMonitor]
// clears away.
package xen
