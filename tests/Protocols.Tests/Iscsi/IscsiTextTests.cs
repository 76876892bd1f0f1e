using ImageMount.Core.Block;
using ImageMount.Core.Graph;
using ImageMount.Core.Options;
using ImageMount.Core.Secrets;
using ImageMount.Protocols.Iscsi;
using ImageMount.TestSupport;

namespace ImageMount.Protocols.Tests.Iscsi;

/// <summary>URIs, QEMU's configuration, sense data and block states: what is parsed.</summary>
public sealed class IscsiTextTests
{
    [Theory]
    [InlineData("iscsi://h/iqn.x:y/0", "portal=h target=iqn.x:y lun=0")]
    [InlineData("iscsi://h:13260/iqn.x:y/17", "portal=h:13260 target=iqn.x:y lun=17")]
    [InlineData("iscsi://[::1]:1/iqn.x/1", "portal=[::1]:1 target=iqn.x lun=1")]
    [InlineData("iscsi://alice%pa%20ss@h/iqn.x/1", "user=alice password=pa%20ss portal=h target=iqn.x lun=1")]
    [InlineData("iscsi://alice:p@ss@h/iqn.x/1", "user=alice password=p@ss portal=h target=iqn.x lun=1")]
    [InlineData("iscsi://alice@h/iqn%3Ax/1", "user=alice portal=h target=iqn:x lun=1")]
    [InlineData("iscsi://h/iqn.x/1?header_digest=crc32c&target_user=bob&target_password=x",
        "portal=h target=iqn.x lun=1 header-digest=crc32c target-user=bob target-password=x")]
    [InlineData("iser://h/iqn.x/1", "transport=iser portal=h target=iqn.x lun=1")]
    public void A_uri_becomes_options(string uri, string expected)
    {
        OptionMap map = IscsiUri.Parse(uri);
        Assert.Equal(
            expected.Split(' ').Order(), map.Keys.Select(key => $"{key}={map.Get(key)}").Order());
    }

    [Theory]
    [InlineData("iscsi:h/iqn/1")]
    [InlineData("iscsi://user%geheim@/iqn/1")]
    [InlineData("iscsi://user%geheim@h/iqn")]
    [InlineData("iscsi://user%geheim@h/iqn/x")]
    [InlineData("iscsi://user%geheim@h/iqn/-1")]
    [InlineData("iscsi://user%geheim@h/iqn/1/2")]
    [InlineData("iscsi://user%geheim@h//1")]
    [InlineData("iscsi://%geheim@h/iqn/1")]
    [InlineData("iscsi://user%geheim@h:0/iqn/1")]
    [InlineData("iscsi://user%geheim@h/iqn/1?password=geheim")]
    [InlineData("iscsi://h/iqn/1?header_digest=")]
    public void A_wrong_uri_is_refused_without_showing_it(string uri)
    {
        BlockException e = Assert.Throws<BlockException>(() => IscsiUri.Parse(uri));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        Assert.DoesNotContain("geheim", e.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("iscsi://alice%geheim@h/iqn/1?target_user=x&target_password=geheim")]
    [InlineData("driver=iscsi,portal=h,target=t,user=a,password=geheim,target-password=geheim,lun=1")]
    [InlineData("json:{\"driver\":\"iscsi\",\"password\": \"geheim\", \"target\":\"t\"}")]
    public void Passwords_are_not_shown(string source)
    {
        string shown = ShownSource.Of(source);
        Assert.DoesNotContain("geheim", shown, StringComparison.Ordinal);
        Assert.Contains("iscsi", shown, StringComparison.Ordinal);
    }

    [Fact]
    public void A_section_for_the_target_wins_over_the_general_one()
    {
        const string Text = """
            # for tests
            [drive "x"]
              file = "y"
            [iscsi]
              initiator-name = "iqn.me"
              user = "all"
              password = "p w#"

            [iscsi "iqn.one"]
              user = "one"
              password-secret = "s"
              header-digest = "CRC32C"
              timeout = "7"
            """;
        Assert.Equal(
            new IscsiConfig
            {
                User = "one",
                PasswordSecret = "s",
                HeaderDigest = IscsiHeaderDigest.Crc32C,
                Timeout = 7,
            },
            IscsiConfig.Parse(Text, "f", "iqn.one"));
        Assert.Equal(
            new IscsiConfig { User = "all", Password = "p w#", InitiatorName = "iqn.me" },
            IscsiConfig.Parse(Text, "f", "iqn.two"));
        Assert.Equal(new IscsiConfig(), IscsiConfig.Parse("", "f", "iqn.two"));
    }

    [Theory]
    [InlineData("[iscsi]\npassword = geheim")]
    [InlineData("[iscsi]\nfoo = \"geheim\"")]
    [InlineData("[iscsi]\nuser = \"geheim\"\nuser = \"geheim\"")]
    [InlineData("[iscsi\npassword = \"geheim\"")]
    [InlineData("[iscsi]\nheader-digest = \"geheim\"")]
    [InlineData("[iscsi]\ntimeout = \"geheim\"")]
    [InlineData("geheim")]
    public void A_wrong_configuration_is_refused_without_showing_it(string text)
    {
        BlockException e = Assert.Throws<BlockException>(() => IscsiConfig.Parse(text, "the-file", "iqn.x"));
        Assert.Equal(BlockErrorKind.InvalidArgument, e.Kind);
        Assert.Contains("the-file", e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("geheim", e.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Settings_come_from_options_before_the_configuration_and_say_nothing_of_passwords()
    {
        using var dir = new TempDir();
        string file = dir.Write("conf", "[iscsi]\nuser = \"c\"\npassword = \"geheim\"\ntimeout = \"3\"\n"u8);
        using var secrets = new SecretStore { IscsiConfig = file };
        secrets.Add("s", new Secret("geheim2"u8));
        IscsiOptions options = new() { Portal = "h", Target = "iqn.x", Lun = 300 };
        IscsiSettings settings = IscsiSettings.Find(options, secrets);
        Assert.Equal(("c", "geheim"), settings.Login.Chap);
        Assert.Equal((3, 0x4000 | 300, 3260), (settings.Timeout, settings.Lun, settings.Address.Port));
        settings = IscsiSettings.Find(options with { Target = "iqn.y", User = "o", PasswordSecret = "s", Timeout = 4 }, secrets);
        Assert.Equal(("o", "geheim2"), settings.Login.Chap);
        Assert.Equal(4, settings.Timeout);
        Assert.DoesNotContain("geheim", $"{settings}{settings.Login}", StringComparison.Ordinal);

        // Another image on the same target.
        settings = IscsiSettings.Find(options with { Target = "iqn.y" }, secrets);
        Assert.Equal(("o", "geheim2"), settings.Login.Chap);
    }

    [Fact]
    public void What_libiscsi_would_cut_off_or_misunderstand_is_refused()
    {
        var good = new IscsiOptions { Portal = "h", Target = "iqn.x", User = "u", Password = "p" };
        foreach (IscsiOptions bad in (IscsiOptions[])
        [
            good with { Target = new string('x', 256) }, good with { Password = new string('é', 128) },
            good with { User = "a\nb" }, good with { InitiatorName = "" }, good with { Password = null },
            good with { User = null }, good with { PasswordSecret = "s" }, good with { TargetUser = "t" },
            good with { User = null, Password = null, TargetUser = "t", TargetPassword = "p" }, good with { Portal = ":1" },
            good with { Portal = null }, good with { Transport = IscsiTransport.Iser },
        ])
        {
            using var secrets = new SecretStore();
            BlockException e = Assert.Throws<BlockException>(() => IscsiSettings.Find(bad, secrets));
            Assert.True(e.Kind is BlockErrorKind.InvalidArgument or BlockErrorKind.NotSupported, e.Describe());
        }

        using var fresh = new SecretStore();
        IscsiSettings.Find(good, fresh);
    }

    [Fact]
    public void A_missing_library_is_told_with_its_package() => Assert.Contains(
        "Install the package libiscsi7", IscsiErrors.NoLibrary().Describe(), StringComparison.Ordinal);

    [Fact]
    public void Sense_data_of_both_formats_is_read_and_what_is_cut_off_counts_as_zero()
    {
        byte[] fixedFormat = [0, 18, 0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x21, 0x07, 0, 0, 0, 0];
        Assert.Equal(new ScsiSense(5, 0x2107), ScsiSense.Parse(fixedFormat));
        Assert.Equal(new ScsiSense(6, 0x2900), ScsiSense.Parse([0, 8, 0x72, 6, 0x29, 0, 0, 0, 0, 0]));
        Assert.Equal(new ScsiSense(5, 0), ScsiSense.Parse(fixedFormat.AsSpan(0, 6)));
        Assert.Equal(default, ScsiSense.Parse(fixedFormat.AsSpan(0, 3)));
        Assert.Equal(default, ScsiSense.Parse([]));
        Assert.Equal(default, ScsiSense.Parse([0, 4, 0x55, 5, 5, 5]));
        var random = new Random(4);
        for (int i = 0; i < 1000; i++)
        {
            var bytes = new byte[random.Next(40)];
            random.NextBytes(bytes);
            Assert.NotEmpty(ScsiSense.Parse(bytes).ToString());
        }
    }

    [Fact]
    public void Block_states_are_taken_only_where_they_follow_on_each_other()
    {
        static byte[] Answer(params (ulong Address, uint Count, byte State)[] ranges)
        {
            var bytes = new byte[8 + (16 * ranges.Length)];
            System.Buffers.Binary.BinaryPrimitives.WriteInt32BigEndian(bytes, bytes.Length - 4);
            for (int i = 0; i < ranges.Length; i++)
            {
                Span<byte> at = bytes.AsSpan(8 + (16 * i));
                System.Buffers.Binary.BinaryPrimitives.WriteUInt64BigEndian(at, ranges[i].Address);
                System.Buffers.Binary.BinaryPrimitives.WriteUInt32BigEndian(at[8..], ranges[i].Count);
                at[12] = ranges[i].State;
            }

            return bytes;
        }

        static string Parse(byte[] answer) => string.Join(' ', LbaStatus.Parse(answer, 100, 512, 1000 * 512L)
            .Select(extent => $"{extent.Length / 512}{(extent.IsZero ? 'z' : 'd')}"));
        Assert.Equal("50d 100z 10z", Parse(Answer((100, 50, 0), (150, 100, 1), (250, 10, 2))));
        Assert.Equal("60z 10d", Parse(Answer((90, 70, 1), (160, 10, 0)))); // begins before
        Assert.Equal("900z", Parse(Answer((100, uint.MaxValue, 1)))); // ends behind the disk
        Assert.Equal("50z", Parse(Answer((100, 50, 1), (149, 50, 0), (199, 5, 1)))); // overlaps
        Assert.Equal("50z", Parse(Answer((100, 50, 1), (151, 50, 0)))); // a gap
        Assert.Equal("10d", Parse(Answer((100, 10, 9)))); // an unknown state is data
        Assert.Equal("", Parse(Answer((101, 50, 1))));
        Assert.Equal("", Parse(Answer((50, 50, 1))));
        Assert.Equal("", Parse(Answer((100, 0, 1))));
        Assert.Equal("", Parse(Answer((ulong.MaxValue, 50, 1))));
        Assert.Equal("", Parse(Answer()));
        Assert.Equal("", Parse([]));
        Assert.Equal("", Parse(Answer((100, 50, 1))[..20]));
    }
}
