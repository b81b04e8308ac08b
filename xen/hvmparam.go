package xen

import (
	"errors"
	"syscall"

	"github.com/govmi/govmi/internal/abi"
)

// HVMParam is a parameter of an HVM or PVH domain (HVM_PARAM_* of hvm/params.h).
type HVMParam uint32

// Some of the parameters.
const (
	ParamStorePFN       HVMParam = abi.HVMParamStorePFN // frame of the ring for xenstored
	ParamStoreEvtchn    HVMParam = abi.HVMParamStoreEvtchn
	ParamIdentPT        HVMParam = abi.HVMParamIdentPT    // address of the page table while paging is off
	ParamConsolePFN     HVMParam = abi.HVMParamConsolePFN // frame of the console's ring
	ParamConsoleEvtchn  HVMParam = abi.HVMParamConsoleEvtchn
	ParamMonitorRingPFN HVMParam = abi.HVMParamMonitorRingPFN // frame for a monitor's ring; 0: none
	ParamAltP2M         HVMParam = abi.HVMParamAltP2M         // what the domain may have of altp2m
)

// HVMParam returns a parameter of the domain, 0 if it was not set. Not for PV
// domains. Setting them is the toolstack's business: most can be set only once,
// and a domain whose rings have moved is lost.
func (d *Domain) HVMParam(p HVMParam) (uint64, error) {
	v, err := d.hyp.conn.HVMParam(uint16(d.id), uint32(p))
	advice := ""
	if errors.Is(err, syscall.EINVAL) {
		advice = "no such parameter, or a PV domain"
	}
	return v, d.fail("hvm_op get_param", err, advice)
}
