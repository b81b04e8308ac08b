package xen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
)

// ContextType says what a record of a domain's HVM context is
// (HVM_SAVE_CODE of hvm/save.h and arch-x86/hvm/save.h, where the layouts are).
type ContextType uint16

// Some of the types. Those of a vCPU have its index as their instance.
const (
	ContextHeader    ContextType = abi.HVMSaveHeader
	ContextCPU       ContextType = abi.HVMSaveCPU // what Domain.Registers reads
	ContextLAPIC     ContextType = abi.HVMSaveLAPIC
	ContextLAPICRegs ContextType = abi.HVMSaveLAPICRegs
	ContextMTRR      ContextType = abi.HVMSaveMTRR
	ContextXSave     ContextType = abi.HVMSaveXSave
	ContextMSR       ContextType = abi.HVMSaveMSR
)

// ContextRecord is a record of a domain's HVM context.
type ContextRecord struct {
	Type     ContextType
	Instance uint16
	Data     []byte // the structure, without Xen's descriptor before it
}

// Context reads the domain's whole HVM context: all records of all vCPUs and
// devices in Xen's order, without the end mark. Xen pauses the domain for it.
// Records of vCPUs that are offline are left out. Not for PV domains.
//
// There is no operation to set it. Xen's takes vCPUs down that have no record in
// what it is given, turns their clocks back and up to 4.18 leaves a domain half
// changed after an error. Nor is there one for a vCPU's registers alone:
// setvcpucontext resets the FPU, or, told not to, all vector registers beyond
// SSE's. Registers are set by the answer to an event, see [SetRegisters].
func (d *Domain) Context() ([]ContextRecord, error) {
	const op = "domctl gethvmcontext"
	b, err := d.hyp.conn.Context(uint16(d.id))
	if err != nil {
		return nil, d.fail(op, err, adviceContext(err))
	}
	records, err := decodeContext(b)
	return records, d.fail(op, err, "")
}

// ContextRecord reads one record of the domain's HVM context, for which Xen
// pauses its vCPU, or the domain if it belongs to none. The error matches
// [ErrNotFound] if there is no such record. Not for PV domains.
func (d *Domain) ContextRecord(t ContextType, instance uint16) ([]byte, error) {
	const op = "domctl gethvmcontext_partial"
	b, err := d.hyp.conn.ContextRecord(uint16(d.id), uint32(t), uint32(instance))
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENODATA) {
		e := &Error{Op: op, Domain: d.id, kind: ErrNotFound, cause: err, Advice: fmt.Sprintf("no record of type %d and instance %d", t, instance)}
		errors.As(err, &e.Errno)
		return nil, e
	}
	return b, d.fail(op, err, adviceContext(err))
}

func adviceContext(err error) string {
	if errors.Is(err, syscall.EINVAL) {
		return "no such type of record, or a PV domain"
	}
	return ""
}

var errContext = errors.New("the HVM context is not well formed")

// decodeContext splits a context into its records, which share its memory.
func decodeContext(b []byte) ([]ContextRecord, error) {
	const descriptor = 8
	var records []ContextRecord
	for len(b) >= descriptor {
		t, instance := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
		length := binary.LittleEndian.Uint32(b[4:])
		b = b[descriptor:]
		if t == abi.HVMSaveEnd {
			return records, nil
		}
		if uint64(length) > uint64(len(b)) {
			return records, fmt.Errorf("%w: a record of %d bytes in %d", errContext, length, len(b))
		}
		records = append(records, ContextRecord{ContextType(t), instance, b[:length:length]})
		b = b[length:]
	}
	return records, fmt.Errorf("%w: no end", errContext)
}
