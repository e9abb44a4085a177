#pragma once
#include <curl/curl.h>

/* Swift cannot call variadic functions: curl_easy_setopt, curl_easy_getinfo and curl_multi_setopt, one for each type they take. */
static inline CURLcode ccurl_set_long(CURL *handle, CURLoption option, long value) { return curl_easy_setopt(handle, option, value); }
static inline CURLcode ccurl_set_offset(CURL *handle, CURLoption option, curl_off_t value) { return curl_easy_setopt(handle, option, value); }
static inline CURLcode ccurl_set_text(CURL *handle, CURLoption option, const char *value) { return curl_easy_setopt(handle, option, value); }
static inline CURLcode ccurl_set_pointer(CURL *handle, CURLoption option, void *value) { return curl_easy_setopt(handle, option, value); }

typedef size_t (*ccurl_bytes_function)(char *bytes, size_t size, size_t count, void *context);
static inline CURLcode ccurl_set_bytes_function(CURL *handle, CURLoption option, ccurl_bytes_function function)
{
    return curl_easy_setopt(handle, option, function);
}
static inline CURLcode ccurl_set_open_socket_function(CURL *handle, curl_opensocket_callback function)
{
    return curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, function);
}

static inline CURLcode ccurl_get_long(CURL *handle, CURLINFO info, long *value) { return curl_easy_getinfo(handle, info, value); }
static inline CURLcode ccurl_get_offset(CURL *handle, CURLINFO info, curl_off_t *value) { return curl_easy_getinfo(handle, info, value); }
static inline CURLcode ccurl_get_pointer(CURL *handle, CURLINFO info, void **value) { return curl_easy_getinfo(handle, info, value); }

static inline CURLMcode ccurl_multi_set_long(CURLM *multi, CURLMoption option, long value) { return curl_multi_setopt(multi, option, value); }

/* A cast that Swift cannot import. */
static const curl_socket_t ccurl_socket_bad = CURL_SOCKET_BAD;
