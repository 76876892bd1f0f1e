using System.Diagnostics;
using System.Text.Json;
using ImageMount.Fuse;
using ImageMount.Mounting.Partitions;
using ImageMount.Mounting.Reports;

namespace ImageMount.Mounting.Tests.Reports;

public sealed class ReportTests
{
    [Theory]
    [InlineData(0.0, 0)]
    [InlineData(1.5, 1)]
    [InlineData(7.5, 3)]
    [InlineData(8.5, 4)]
    [InlineData(1e12, DiskStatistics.Classes - 1)]
    public void A_latency_is_counted_in_its_class(double microseconds, int expected)
    {
        var statistics = new DiskStatistics();

        // A start in the past; the time that passes until it is read can only be added, so classes are lower bounds.
        long started = Stopwatch.GetTimestamp() - (long)(microseconds * Stopwatch.Frequency / 1e6);
        statistics.Succeeded(DiskOperation.Read, 4096, started);
        OperationStatistics sums = statistics.Read(DiskOperation.Read);
        Assert.Equal((1, 4096, 0), (sums.Count, sums.Bytes, sums.Errors));
        Assert.True(sums.Latencies.ToList().FindIndex(n => n != 0) >= expected);
        Assert.Equal(0, statistics.Read(DiskOperation.Write).Count);
    }

    [Fact]
    public async Task Counts_from_many_threads_add_up()
    {
        var statistics = new DiskStatistics();
        await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => Task.Run(() =>
        {
            for (int i = 0; i < 10_000; i++)
            {
                statistics.Succeeded(DiskOperation.Write, 3, DiskStatistics.Now);
                statistics.Failed(DiskOperation.Write);
            }
        })));
        OperationStatistics sums = statistics.Read(DiskOperation.Write);
        Assert.Equal((80_000, 240_000, 80_000), (sums.Count, sums.Bytes, sums.Errors));
    }

    [Fact]
    public void Stats_are_json_with_every_operation()
    {
        var statistics = new DiskStatistics();
        statistics.Succeeded(DiskOperation.Zero, 10, DiskStatistics.Now);
        byte[] text = ReportJson.Make(json => StatsReport.Write(
            json, statistics, new FuseCounters { Requests = 5 }, FuseTransportKind.Uring, TimeSpan.FromSeconds(2), 3));
        JsonElement root = JsonDocument.Parse(text).RootElement;
        Assert.Equal(2000, root.GetProperty("uptime-ms").GetInt64());
        Assert.Equal(5, root.GetProperty("fuse").GetProperty("requests").GetInt64());
        Assert.Equal("uring", root.GetProperty("fuse").GetProperty("transport").GetString());
        foreach (string operation in (string[])["read", "write", "flush", "zero"])
        {
            JsonElement sums = root.GetProperty(operation);
            long count = sums.GetProperty("count").GetInt64();
            Assert.Equal(operation == "zero" ? 1 : 0, count);
            Assert.Equal(count, sums.GetProperty("latency-us").EnumerateObject().Sum(p => p.Value.GetInt64()));
        }
    }

    [Fact]
    public void Partitions_and_their_warnings_are_in_the_mounts_info()
    {
        var table = new PartitionTable(
            PartitionScheme.Gpt, 512, [new Partition(2, 512, 1024, "id", null, "na\"me", true, false)], ["odd"]);
        byte[] text = ReportJson.Make(json => InfoReport.Write(
            json, new DeviceInfo { Format = "raw", FileName = "x" }, more => InfoReport.WritePartitions(more, table)));
        JsonElement root = JsonDocument.Parse(text).RootElement;
        JsonElement partition = root.GetProperty("partitions")[0];
        Assert.Equal((2, 512, "na\"me"), (
            partition.GetProperty("number").GetInt32(), partition.GetProperty("start").GetInt64(),
            partition.GetProperty("name").GetString()));
        Assert.False(partition.TryGetProperty("type-name", out _));
        Assert.Equal("odd", root.GetProperty("warnings")[0].GetString());
        Assert.Equal("gpt", root.GetProperty("partition-table").GetString());
    }

    [Fact]
    public async Task Neighbours_with_the_same_state_are_one_line_and_a_map_is_made_in_pieces()
    {
        // 20,000 runs of alternating state; the device cuts each in two.
        BlockNode node = new("disk", "memory", new StripedDevice());
        int pieces = 0;
        var text = new MemoryStream();
        await foreach (ReadOnlyMemory<byte> piece in MapReport.JsonAsync(node, 0, node.Length))
        {
            Assert.InRange(piece.Length, 1, 64 << 10);
            text.Write(piece.Span);
            pieces++;
        }

        Assert.True(pieces > 10);
        JsonElement root = JsonDocument.Parse(text.ToArray()).RootElement;
        Assert.Equal(20_000, root.GetArrayLength());
        Assert.All(
            root.EnumerateArray(), line => Assert.Equal(StripedDevice.Stripe, line.GetProperty("length").GetInt64()));
    }

    private sealed class StripedDevice : BlockDevice
    {
        public const long Stripe = 1024;

        public override long Length => 20_000 * Stripe;

        public override BlockCapabilities Capabilities => BlockCapabilities.Map;

        public override ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
            default;

        public override ValueTask<BlockExtent> MapAsync(long offset, long count, CancellationToken cancellationToken)
        {
            bool isData = offset / Stripe % 2 == 0;
            long half = Stripe / 2 - offset % (Stripe / 2);
            return new(new BlockExtent(
                Math.Min(half, count), ExtentFlags.Present | (isData ? ExtentFlags.Data : ExtentFlags.Zero)));
        }
    }
}
