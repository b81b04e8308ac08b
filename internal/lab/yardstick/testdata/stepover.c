/*
 * The yardstick for the cost of an event: what a monitor costs the guest that is
 * written in plain C on libxenctrl, with nothing in it but one kind of event.
 *
 *   stepover DOMAIN ADDRESS FRAME HITS BYTES
 *
 * A byte of the guest's code is an int3; each hit is answered with the
 * instruction's original bytes, which Xen emulates.
 *
 * ADDRESS is the instruction's and FRAME the guest frame that it is in, both
 * hexadecimal; BYTES are 16 bytes of the code from there on, 32 hexadecimal
 * digits. It prints "armed", and after HITS hits, or when it gets SIGTERM,
 * "hits=N" with the guest as it was. A signal is to be sent until it ends: one
 * that comes right before it waits is not seen.
 *
 *   stepover DOMAIN requests
 *   stepover DOMAIN async
 *
 * What the guest asks for itself, which waits for an answer or does not, is
 * answered and counted.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xenctrl.h>
#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xen/vm_event.h>

#define PAGE 4096
#define INT3 0xcc
#define X86_TRAP_INT3 3
#define X86_TYPE_SW_EXC 6

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
    (void)sig;
    stopped = 1;
}

static xc_interface *xch;
static xenevtchn_handle *xce;
static xendevicemodel_handle *dm;
static uint32_t dom;
static xenevtchn_port_or_error_t port = -1;
static vm_event_back_ring_t ring;

static uint64_t address, limit, hits;
static uint8_t code[16];
static int requests, async;

static int fail(const char *what)
{
    fprintf(stderr, "stepover: %s: %s\n", what, strerror(errno));
    return -1;
}

/* Answers all requests that there are. */
static int answer(void)
{
    int answered = 0;

    while (RING_HAS_UNCONSUMED_REQUESTS(&ring)) {
        vm_event_request_t req;
        vm_event_response_t rsp = { 0 };

        memcpy(&req, RING_GET_REQUEST(&ring, ring.req_cons), sizeof(req));
        ring.req_cons++;
        ring.sring->req_event = ring.req_cons + 1;

        rsp.version = VM_EVENT_INTERFACE_VERSION;
        rsp.vcpu_id = req.vcpu_id;
        rsp.reason = req.reason;
        rsp.flags = req.flags & VM_EVENT_FLAG_VCPU_PAUSED;
        if (req.reason == VM_EVENT_REASON_SOFTWARE_BREAKPOINT) {
            if (req.data.regs.x86.rip == address) {
                hits++;
                rsp.flags |= VM_EVENT_FLAG_EMULATE | VM_EVENT_FLAG_SET_EMUL_INSN_DATA;
                memcpy(rsp.data.emul.insn.data, code, sizeof(code));
            } else if (xendevicemodel_inject_event(dm, dom, req.vcpu_id, X86_TRAP_INT3, X86_TYPE_SW_EXC, -1,
                                                   req.u.software_breakpoint.insn_length, 0)) {
                return fail("give the guest its own int3");
            }
        } else if (req.reason == VM_EVENT_REASON_GUEST_REQUEST) {
            hits++;
        }
        memcpy(RING_GET_RESPONSE(&ring, ring.rsp_prod_pvt), &rsp, sizeof(rsp));
        ring.rsp_prod_pvt++;
        RING_PUSH_RESPONSES(&ring);
        answered = 1;
    }
    if (answered && xenevtchn_notify(xce, port))
        return fail("notify");
    return 0;
}

/* Serves hits until there were enough. */
static int serve(void)
{
    while (hits < limit && !stopped) {
        xenevtchn_port_or_error_t p = xenevtchn_pending(xce);

        if (p < 0) {
            if (errno == EINTR)
                continue;
            return fail("wait");
        }
        if (xenevtchn_unmask(xce, p))
            return fail("unmask");
        if (answer())
            return -1;
    }
    return 0;
}

static int parse(char **argv)
{
    char *end;

    errno = EINVAL;
    dom = strtoul(argv[1], &end, 10);
    if (*end || !dom)
        return fail("DOMAIN");
    if (requests) {
        limit = UINT64_MAX;
        errno = 0;
        return 0;
    }
    address = strtoull(argv[2], &end, 16);
    if (*end)
        return fail("ADDRESS");
    limit = strtoull(argv[4], &end, 10);
    if (*end)
        return fail("HITS");
    if (strlen(argv[5]) != 2 * sizeof(code))
        return fail("BYTES");
    for (size_t i = 0; i < sizeof(code); i++) {
        char digits[3] = { argv[5][2 * i], argv[5][2 * i + 1], 0 };

        code[i] = strtoul(digits, &end, 16);
        if (*end)
            return fail("BYTES");
    }
    return 0;
}

static int enable(int on)
{
    if (requests)
        return xc_monitor_guest_request(xch, dom, on, !async, true);
    return xc_monitor_software_breakpoint(xch, dom, on);
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal };
    xenforeignmemory_handle *fm;
    uint8_t *text = NULL;
    uint32_t remote;
    xen_pfn_t frame;
    void *page;
    int rc = 1;

    async = argc == 3 && !strcmp(argv[2], "async");
    requests = async || (argc == 3 && !strcmp(argv[2], "requests"));
    if (argc != 6 && !requests) {
        fprintf(stderr, "usage: stepover DOMAIN ADDRESS FRAME HITS BYTES | DOMAIN requests | DOMAIN async\n");
        return 2;
    }
    if (parse(argv))
        return 2;
    frame = requests ? 0 : strtoull(argv[3], NULL, 16);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    xch = xc_interface_open(NULL, NULL, 0);
    xce = xenevtchn_open(NULL, 0);
    dm = xendevicemodel_open(NULL, 0);
    fm = xenforeignmemory_open(NULL, 0);
    if (!xch || !xce || !dm || !fm) {
        fail("open Xen's devices");
        return 1;
    }
    page = xc_monitor_enable(xch, dom, &remote);
    if (!page) {
        fail("monitor");
        return 1;
    }
    SHARED_RING_INIT((vm_event_sring_t *)page);
    BACK_RING_INIT(&ring, (vm_event_sring_t *)page, PAGE);
    port = xenevtchn_bind_interdomain(xce, dom, remote);
    if (port < 0) {
        fail("bind");
        goto out;
    }
    if (!requests) {
        text = xenforeignmemory_map(fm, dom, PROT_READ | PROT_WRITE, 1, &frame, NULL);
        if (!text) {
            fail("map FRAME");
            goto out;
        }
        text += address % PAGE;
        if (*text != code[0]) {
            fprintf(stderr, "stepover: at %" PRIx64 " is %02x, not %02x\n", address, *text, code[0]);
            goto out;
        }
    }
    if (enable(1)) {
        fail("events");
        goto out;
    }
    if (text)
        *(volatile uint8_t *)text = INT3;
    puts("armed");
    fflush(stdout);

    rc = serve() ? 1 : 0;

    /* No vCPU waits for an answer when the ring goes. */
    if (text)
        *(volatile uint8_t *)text = code[0];
    if (xc_domain_pause(xch, dom))
        rc = -fail("pause");
    if (answer())
        rc = 1;
    if (enable(0))
        rc = -fail("events off");
    if (xc_domain_unpause(xch, dom))
        rc = -fail("unpause");
    printf("hits=%" PRIu64 "\n", hits);
out:
    if (port >= 0)
        xenevtchn_unbind(xce, port);
    munmap(page, PAGE);
    if (xc_monitor_disable(xch, dom))
        rc = -fail("monitor off");
    return rc;
}
