#pragma once
#include <netinet/in.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <resolv.h>
#include <string.h>

/* In Swift the structure's own name is taken by a function. */
typedef struct __res_state cresolv_state;

/* Swift does not see functions that a macro renames, nor the union in the resolver's state. */
static inline int cresolv_open(cresolv_state *state)
{
    memset(state, 0, sizeof *state);
    return res_ninit(state);
}
static inline void cresolv_close(cresolv_state *state) { res_nclose(state); }
static inline int cresolv_query(cresolv_state *state, const char *name, int type, unsigned char *answer, int size)
{
    return res_nquery(state, name, ns_c_in, type, answer, size);
}

/* The one server to ask; what resolv.conf names is forgotten. */
static inline void cresolv_set_server(cresolv_state *state, struct in_addr address, in_port_t port)
{
    state->nscount = 1;
    memset(&state->nsaddr_list[0], 0, sizeof state->nsaddr_list[0]);
    state->nsaddr_list[0].sin_family = AF_INET;
    state->nsaddr_list[0].sin_addr = address;
    state->nsaddr_list[0].sin_port = port;
}
