package privcmd

import (
	"bytes"
	"unsafe" // Sizeof only

	"github.com/govmi/govmi/internal/abi"
	"github.com/govmi/govmi/internal/hcbuf"
)

// XenExtraVersion returns the rest of the release's name, such as ".4-pre".
func (c *Conn) XenExtraVersion() (string, error) {
	return c.versionText(abi.XenVerExtraVersion, abi.ExtraVersionSize)
}

// XenChangeset returns what Xen's source is, by the words of who built it.
func (c *Conn) XenChangeset() (string, error) {
	return c.versionText(abi.XenVerChangeset, abi.ChangesetSize)
}

// XenCommandLine returns the command line that Xen was booted with, cut to 1023
// bytes.
func (c *Conn) XenCommandLine() (string, error) {
	return c.versionText(abi.XenVerCommandLine, abi.CommandLineSize)
}

// versionText makes an operation of xen_version that fills size bytes with text.
func (c *Conn) versionText(op uint64, size int) (string, error) {
	buf, err := c.pool.Get(size)
	if err != nil {
		return "", err
	}
	defer buf.Free()
	b := buf.Bytes(size)
	if _, err := c.call(abi.HypercallXenVersion, op, hcbuf.Addr(&b[0])); err != nil {
		return "", err
	}
	return text(b), nil
}

// text is what comes before the first zero byte.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// XenCompileInfo returns how Xen was built.
func (c *Conn) XenCompileInfo() (compiler, by, domain, date string, err error) {
	buf, err := c.pool.Get(int(unsafe.Sizeof(abi.CompileInfo{})))
	if err != nil {
		return "", "", "", "", err
	}
	defer buf.Free()
	i := hcbuf.New[abi.CompileInfo](buf)
	if _, err := c.call(abi.HypercallXenVersion, abi.XenVerCompileInfo, hcbuf.Addr(i)); err != nil {
		return "", "", "", "", err
	}
	return text(i.Compiler[:]), text(i.By[:]), text(i.Domain[:]), text(i.Date[:]), nil
}

// FlaskEnforcing tells whether FLASK denies, or only notes what it would.
// ENOSYS: there is no FLASK.
func (c *Conn) FlaskEnforcing() (bool, error) {
	buf, err := c.pool.Get(int(unsafe.Sizeof(abi.FlaskOp{})))
	if err != nil {
		return false, err
	}
	defer buf.Free()
	op := hcbuf.New[abi.FlaskOp](buf)
	op.Cmd, op.InterfaceVersion = abi.FlaskGetEnforce, abi.FlaskVersion
	n, err := c.call(abi.HypercallXSMOp, hcbuf.Addr(op))
	return n != 0, err
}

// PhysInfo returns what Xen knows of the machine.
func (c *Conn) PhysInfo(sysctlVersion uint32) (abi.PhysInfo417, error) {
	buf, err := c.pool.Get(int(unsafe.Sizeof(abi.Sysctl{})))
	if err != nil {
		return abi.PhysInfo417{}, err
	}
	defer buf.Free()
	s := hcbuf.New[abi.Sysctl](buf)
	s.Cmd, s.InterfaceVersion = abi.SysctlPhysInfo, sysctlVersion
	if _, err := c.send(abi.HypercallSysctl, hcbuf.Addr(s)); err != nil {
		return abi.PhysInfo417{}, c.denied(err)
	}
	if sysctlVersion >= abi.SysctlPhysInfo417 {
		return *hcbuf.Overlay[abi.PhysInfo417](s.U[:]), nil
	}
	old := hcbuf.Overlay[abi.PhysInfo414](s.U[:])
	return abi.PhysInfo417{PhysInfoHead: old.PhysInfoHead, PhysInfoTail: old.PhysInfoTail}, nil
}

// ReadConsole returns what Xen has said since index, up to size bytes, and where
// that ends. Xen forgets the oldest, and index 0 is what it still has.
func (c *Conn) ReadConsole(sysctlVersion uint32, index uint32, size int) (said []byte, end uint32, err error) {
	buf, err := c.pool.Get(int(unsafe.Sizeof(abi.Sysctl{})))
	if err != nil {
		return nil, 0, err
	}
	defer buf.Free()
	room, err := c.pool.Get(size)
	if err != nil {
		return nil, 0, err
	}
	defer room.Free()
	mem := room.Bytes(size)
	s := hcbuf.New[abi.Sysctl](buf)
	s.Cmd, s.InterfaceVersion = abi.SysctlReadConsole, sysctlVersion
	u := hcbuf.Overlay[abi.ReadConsole](s.U[:])
	u.Incremental, u.Index, u.Buffer, u.Count = 1, index, hcbuf.Addr(&mem[0]), uint32(size)
	if _, err := c.send(abi.HypercallSysctl, hcbuf.Addr(s)); err != nil {
		return nil, 0, c.denied(err)
	}
	return append([]byte(nil), mem[:min(int(u.Count), size)]...), u.Index, nil
}
