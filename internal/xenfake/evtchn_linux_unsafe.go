//go:build linux

package xenfake

import (
	"encoding/binary"
	"syscall"
	"unsafe" // ioctl arguments

	"golang.org/x/sys/unix"

	"github.com/govmi/govmi/internal/abi"
)

// evtchnFile is an open /dev/xen/evtchn: a pipe, whose readers block.
type evtchnFile struct {
	x    *Xen
	r, w int
}

// port is a bound event channel.
type port struct {
	local  uint32
	file   *evtchnFile
	dom    *Domain // unless it leads to this side
	peer   *port   // if it does, and the other end is bound
	masked bool    // delivered and not yet written back
	latch  bool    // arrived while masked
	buf    [4]byte
}

// raise delivers an event. x.mu is held.
func (p *port) raise() {
	if p.masked {
		p.latch = true
		return
	}
	p.masked = true
	binary.NativeEndian.PutUint32(p.buf[:], p.local)
	if _, err := unix.Write(p.file.w, p.buf[:]); err != nil {
		p.file.x.violate("deliver an event: %v", err)
	}
}

func (x *Xen) openEvtchn() (*evtchnFile, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	return &evtchnFile{x: x, r: fds[0], w: fds[1]}, nil
}

func (f *evtchnFile) Ioctl(req uint32, arg unsafe.Pointer) (int, error) {
	x := f.x
	x.mu.Lock()
	defer x.mu.Unlock()
	switch req {
	case abi.IoctlEvtchnBindInterdomain:
		if err := x.call("evtchn bind_interdomain"); err != nil {
			return -1, err
		}
		a := (*abi.EvtchnBindInterdomain)(arg)
		if a.RemoteDomain == abi.DomIDSelf {
			peer := x.ports[a.RemotePort]
			if peer == nil || peer.dom != nil || peer.peer != nil {
				return -1, syscall.EINVAL
			}
			p := x.bind(f)
			p.peer, peer.peer = peer, p
			return int(p.local), nil
		}
		d := x.domains[uint16(a.RemoteDomain)]
		if d == nil || d.ring == nil || d.ring.port != a.RemotePort || d.ring.bound != nil {
			return -1, syscall.EINVAL
		}
		p := x.bind(f)
		p.dom, d.ring.bound = d, p
		return int(p.local), nil
	case abi.IoctlEvtchnBindUnbound:
		if err := x.call("evtchn bind_unbound_port"); err != nil {
			return -1, err
		}
		if (*abi.EvtchnBindUnbound)(arg).RemoteDomain != abi.DomIDSelf {
			return -1, syscall.EINVAL // as nothing here is at the other end
		}
		return int(x.bind(f).local), nil
	case abi.IoctlEvtchnUnbind:
		if err := x.call("evtchn unbind"); err != nil {
			return -1, err
		}
		p := x.ports[(*abi.EvtchnPort)(arg).Port]
		if p == nil || p.file != f {
			return -1, syscall.ENOTCONN
		}
		x.unbind(p)
		return 0, nil
	case abi.IoctlEvtchnNotify:
		p := x.ports[(*abi.EvtchnPort)(arg).Port]
		if p != nil && p.peer != nil {
			p.peer.raise() // between threads of the program: no call to count or to fail
			return 0, nil
		}
		if err := x.call("evtchn notify"); err != nil {
			return -1, err
		}
		if p == nil || p.file != f || p.dom == nil {
			return -1, syscall.ENOTCONN
		}
		if p.dom.ring != nil && p.dom.ring.bound == p {
			p.dom.resume()
		}
		return 0, nil
	}
	return -1, syscall.ENOSYS
}

// bind makes a channel of f. x.mu is held.
func (x *Xen) bind(f *evtchnFile) *port {
	p := &port{local: x.nextPort, file: f}
	x.nextPort++
	x.ports[p.local] = p
	return p
}

func (x *Xen) unbind(p *port) {
	delete(x.ports, p.local)
	if p.peer != nil {
		p.peer.peer = nil
	}
	if p.dom != nil && p.dom.ring != nil && p.dom.ring.bound == p {
		p.dom.ring.bound = nil
	}
}

func (f *evtchnFile) Map(int, bool) ([]byte, error) { return nil, syscall.ENODEV }
func (f *evtchnFile) Unmap([]byte) error            { return syscall.EINVAL }

func (f *evtchnFile) Read(p []byte) (int, error) {
	n, err := unix.Read(f.r, p)
	return max(n, 0), err
}

// Write unmasks the ports whose numbers are in p.
func (f *evtchnFile) Write(p []byte) (int, error) {
	f.x.mu.Lock()
	defer f.x.mu.Unlock()
	for i := 0; i+4 <= len(p); i += 4 {
		port := f.x.ports[binary.NativeEndian.Uint32(p[i:])]
		if port == nil || port.file != f {
			continue
		}
		port.masked = false
		if port.latch {
			port.latch = false
			port.raise()
		}
	}
	return len(p), nil
}

func (f *evtchnFile) Close() error {
	f.x.mu.Lock()
	defer f.x.mu.Unlock()
	for _, p := range f.x.ports {
		if p.file == f {
			f.x.unbind(p)
		}
	}
	f.x.files--
	unix.Close(f.w)
	return unix.Close(f.r)
}
