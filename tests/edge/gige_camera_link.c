/* Lends GvFakeCamera a loopback address of its own, so that several may run at once.
 *
 * It listens only on addresses that getifaddrs names, and loopback names one: 127.0.0.1. The
 * kernel accepts all of 127.0.0.0/8, so naming another is enough. Preloaded into the camera. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>

static void rename_loopback(struct sockaddr *address, const char *name)
{
    struct sockaddr_in *inet = (struct sockaddr_in *)address;
    if (inet && inet->sin_family == AF_INET && inet->sin_addr.s_addr == htonl(INADDR_LOOPBACK))
        inet_pton(AF_INET, name, &inet->sin_addr);
}

int getifaddrs(struct ifaddrs **list)
{
    int (*original)(struct ifaddrs **) = (int (*)(struct ifaddrs **))dlsym(RTLD_NEXT, "getifaddrs");
    const char *name = getenv("GIGE_CAMERA_ADDRESS");
    int result = original(list);
    for (struct ifaddrs *one = result == 0 && name ? *list : NULL; one; one = one->ifa_next) {
        rename_loopback(one->ifa_addr, name);
        rename_loopback(one->ifa_broadaddr, name);
    }
    return result;
}
