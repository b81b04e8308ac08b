/*
 * Makes a domain as a toolstack does before it loads anything into it, and
 * destroys it: xl has no command for the former.
 *
 *   emptydomain create VCPUS
 *   emptydomain destroy DOMAIN
 *
 * The domain has nested paging and is paused. It prints its number. Where a
 * security policy wants a label it has that of ordinary guests.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xenctrl.h>

static char label[] = "system_u:system_r:domU_t";

int main(int argc, char **argv)
{
    struct xen_domctl_createdomain config = {
        .flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap,
        .max_evtchn_port = 1023,
        .max_grant_frames = 16,
        .max_maptrack_frames = 128,
#ifdef XEN_DOMCTL_GRANT_version
        .grant_opts = XEN_DOMCTL_GRANT_version(2),
#endif
        .arch = { .emulation_flags = XEN_X86_EMU_LAPIC },
    };
    uint32_t dom = 0, sid;
    xc_interface *xch;
    unsigned long n;

    n = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (!n || (strcmp(argv[1], "create") && strcmp(argv[1], "destroy"))) {
        fprintf(stderr, "usage: emptydomain create VCPUS | destroy DOMAIN\n");
        return 2;
    }
    xch = xc_interface_open(NULL, NULL, 0);
    if (!xch) {
        fprintf(stderr, "emptydomain: open: %s\n", strerror(errno));
        return 1;
    }
    if (!strcmp(argv[1], "destroy")) {
        if (xc_domain_destroy(xch, n)) {
            fprintf(stderr, "emptydomain: destroy: %s\n", strerror(errno));
            return 1;
        }
        return 0;
    }
    config.max_vcpus = n;
    if (!xc_flask_context_to_sid(xch, label, sizeof(label) - 1, &sid))
        config.ssidref = sid;
    if (xc_domain_create(xch, &dom, &config)) {
        fprintf(stderr, "emptydomain: create: %s\n", strerror(errno));
        return 1;
    }
    printf("%" PRIu32 "\n", dom);
    return 0;
}
