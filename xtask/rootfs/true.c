/* /bin/true for the demo rootfs: the cheapest payload, for benchmarks and tests. */
int main(void)
{
    return 0;
}
