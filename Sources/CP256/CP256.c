#include "CP256.h"
