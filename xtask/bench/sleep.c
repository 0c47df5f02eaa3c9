/* Waits until it is killed: a container that only is there. */
#include <unistd.h>

int main(void)
{
    for (;;) {
        pause();
    }
}
