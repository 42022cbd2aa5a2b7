/* What a camera on a network has and GvFakeCamera has not; preloaded into its process.
 *
 * An address of its own, so that several may run at once: it listens only on addresses that
 * getifaddrs names, and loopback names one, 127.0.0.1. The kernel accepts all of 127.0.0.0/8, so
 * naming another is enough.
 *
 * Chunk data: exposure and gain behind each picture, where its last packet has room for them.
 *
 * Cameras without a clock, whose pictures have time 0; and answers that say: busy.
 *
 * A link of some speed: it sends a picture as fast as memory allows, which no receiver's socket
 * buffer holds and no cable carries. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
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

static int is_control(int socket)
{
    struct sockaddr_in local = {0};
    socklen_t length = sizeof local;
    return getsockname(socket, (struct sockaddr *)&local, &length) == 0 &&
           ntohs(local.sin_port) == 3956;
}

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static uint32_t chunk_image_bytes; /* 0: chunks are off */
static uint32_t chunk_exposure_us, chunk_gain;

/* What the next picture is and was taken with; called before its first packet is sent. */
void gige_camera_chunks(uint32_t image_bytes, uint32_t exposure_us, uint32_t gain)
{
    chunk_image_bytes = image_bytes;
    chunk_exposure_us = exposure_us;
    chunk_gain = gain;
}

enum { HEADER = 8, CONTENT = 4, LEADER = 1, TIMESTAMP = 12, TIMESTAMP_BYTES = 8 };

static void without_clock(unsigned char *packet, size_t length)
{
    if (length >= TIMESTAMP + TIMESTAMP_BYTES && packet[CONTENT] == LEADER)
        memset(packet + TIMESTAMP, 0, TIMESTAMP_BYTES);
}

static int busy_answers;

/* Answers the next register that is written with: busy. */
void gige_camera_busy(void)
{
    busy_answers = 1;
}

static void refused_when_busy(unsigned char *packet, size_t length)
{
    enum { WRITE_REGISTER_ACK = 0x83, BUSY = 0x8007 };
    if (busy_answers && length >= HEADER && packet[2] == 0 && packet[3] == WRITE_REGISTER_ACK) {
        packet[0] = BUSY >> 8;
        packet[1] = BUSY & 255;
        busy_answers = 0;
    }
}

/* Returns the length of a picture's packet with its chunks: value, identifier, length, the
 * picture being the first value. */
static size_t with_chunks(unsigned char *packet, size_t length)
{
    enum { PAYLOAD = 3, PAYLOAD_TYPE = 10 };
    static uint32_t left;
    if (length < HEADER + 4)
        return length;
    if (packet[CONTENT] == LEADER) {
        left = chunk_image_bytes;
        packet[PAYLOAD_TYPE] |= 0x40;
    } else if (packet[CONTENT] == PAYLOAD && (left -= length - HEADER) == 0) {
        uint32_t chunks[] = {htonl(0xE0), htonl(chunk_image_bytes), htonl(chunk_exposure_us),
                             htonl(0xE1), htonl(4),                 htonl(chunk_gain),
                             htonl(0xE2), htonl(4)};
        memcpy(packet + length, chunks, sizeof chunks);
        length += sizeof chunks;
    }
    return length;
}

/* Pictures are sent by one thread, answers by another, in messages of one part. Sleeps are long enough to be kept by the kernel's timers. */
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
    struct iovec part = message->msg_iov[0];
    struct msghdr altered = *message;
    altered.msg_iov = &part;
    if (is_control(socket)) {
        refused_when_busy(part.iov_base, part.iov_len);
    } else {
        if (getenv("GIGE_CAMERA_NO_CLOCK"))
            without_clock(part.iov_base, part.iov_len);
        if (chunk_image_bytes)
            part.iov_len = with_chunks(part.iov_base, part.iov_len);
    }
    ssize_t sent = original(socket, &altered, flags);
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
