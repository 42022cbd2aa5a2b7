/* What a camera on a network has and GvFakeCamera has not; preloaded into its process.
 *
 * An address of its own, so that several may run at once: it listens only on addresses that
 * getifaddrs names, and loopback names one, 127.0.0.1. The kernel accepts all of 127.0.0.0/8, so
 * naming another is enough.
 *
 * A link of some speed: it sends a picture as fast as memory allows, which no receiver's socket
 * buffer holds and no cable carries. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

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

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Packets are sent by one thread. Sleeps are long enough to be kept by the kernel's timers. */
ssize_t sendmsg(int socket, const struct msghdr *message, int flags)
{
    static ssize_t (*original)(int, const struct msghdr *, int);
    static double ns_per_byte = -1;
    static long long free_ns;
    if (!original) {
        const char *mbps = getenv("GIGE_CAMERA_LINK_MBPS");
        original = (ssize_t (*)(int, const struct msghdr *, int))dlsym(RTLD_NEXT, "sendmsg");
        ns_per_byte = mbps ? 8000.0 / atof(mbps) : 0;
    }
    ssize_t sent = original(socket, message, flags);
    long long now = now_ns();
    if (free_ns < now - 1000000) /* else the last sleep was too long, and is made up for */
        free_ns = now;
    free_ns += (long long)(sent > 0 ? sent * ns_per_byte : 0);
    if (free_ns - now > 300000) {
        struct timespec rest = {0, free_ns - now};
        nanosleep(&rest, NULL);
    }
    return sent;
}
