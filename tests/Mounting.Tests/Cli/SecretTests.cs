using System.Security.Cryptography;
using System.Text;
using ImageMount.Cli;
using ImageMount.Cli.Background;
using ImageMount.Cli.Commands;
using ImageMount.Core.Secrets;
using ImageMount.TestSupport;

namespace ImageMount.Mounting.Tests.Cli;

/// <summary>Secrets from the command line to the process that serves a mount.</summary>
public sealed class SecretTests
{
    [Theory]
    [InlineData("horse", "horse")]
    [InlineData("horse\n", "horse")]
    [InlineData("horse\r\n", "horse")]
    [InlineData("horse\n\n", "horse\n")]
    [InlineData(" horse \t", " horse \t")]
    [InlineData("\n", "")]
    public void One_line_end_of_a_passphrase_file_is_not_part_of_it(string file, string passphrase)
    {
        using var dir = new TempDir();
        string path = dir.Write("pass", Encoding.UTF8.GetBytes(file));
        using SecretStore store = Read("--passphrase-file", path);
        Assert.Equal(passphrase, Encoding.UTF8.GetString(store.Default!.Span));
    }

    [Fact]
    public void Objects_are_files_data_and_base64()
    {
        using var dir = new TempDir();
        string path = dir.Write("a,b", "from file\n"u8);
        using SecretStore store = Read(
            "--object", $"secret,id=f,file={path.Replace(",", ",,", StringComparison.Ordinal)}", "--object",
            "secret,id=d,data=plain", "--object", "secret,id=b,data=aG9yc2U=,format=base64");
        Assert.Equal(["b", "d", "f"], store.Ids);
        Assert.Equal("from file\n", Text(store, "f"));
        Assert.Equal("plain", Text(store, "d"));
        Assert.Equal("horse", Text(store, "b"));
    }

    [Fact]
    public void Secret_encrypted_with_another_one()
    {
        using var dir = new TempDir();
        byte[] key = RandomNumberGenerator.GetBytes(32);
        byte[] iv = RandomNumberGenerator.GetBytes(16);
        using var aes = Aes.Create();
        aes.Key = key;
        string text = Convert.ToBase64String(aes.EncryptCbc("correct horse"u8, iv));
        string master = dir.Write("master", key);
        string file = dir.Write("encrypted", Encoding.ASCII.GetBytes(text));
        using SecretStore store = Read(
            "--object", $"secret,id=m,file={master}", "--object",
            $"secret,id=s,file={file},keyid=m,iv={Convert.ToBase64String(iv)}");
        Assert.Equal("correct horse", Text(store, "s"));
    }

    [Theory]
    [InlineData("rng-random,id=a", "rng-random")]
    [InlineData("secret,id=a", "file= or data=")]
    [InlineData("secret,id=a,data=x,file=y", "file= or data=")]
    [InlineData("secret,id=a,data=*,format=base64", "base64")]
    [InlineData("secret,id=a,data=x,iv=AAAA", "keyid")]
    public void Mistakes_are_named_without_the_secret(string text, string says)
    {
        Exception e = Assert.ThrowsAny<Exception>(() => Read("--object", text).Dispose());
        Assert.True(e is UsageException or Core.Block.BlockException, e.ToString());
        Assert.Contains(says, e.Message + (e as UsageException)?.Hint, StringComparison.Ordinal);
    }

    [Fact]
    public void Missing_file_is_named()
    {
        CommandException e = Assert.Throws<CommandException>(() => Read("--passphrase-file", "/no/such/file").Dispose());
        Assert.Contains("/no/such/file", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Request_carries_secrets_and_nothing_shows_them()
    {
        using var store = new SecretStore { Default = LuksImages.Secret("default phrase") };
        store.Add("one", LuksImages.Secret("first \"phrase\""));
        store.Remember("disk.luks", LuksImages.Secret("answer"));
        var request = new MountRequest
        {
            Image = new ImageRequest { Source = "disk.luks" },
            MountPoint = "/mnt/x",
            Secrets = store,
        };
        ReadOnlyMemory<byte> text;
        using (WipedBuffer buffer = CliJson.Write(request))
        {
            text = buffer.Written;
            using SecretStore read = CliJson.ReadRequest(text).Secrets;
            Assert.Equal("default phrase", Encoding.UTF8.GetString(read.Default!.Span));
            Assert.Equal("first \"phrase\"", Text(read, "one"));
            Assert.Equal("answer", Encoding.UTF8.GetString(read.Answers.Single().Answer.Span));
        }

        Assert.All(text.ToArray(), b => Assert.Equal(0, b));
        Assert.DoesNotContain("phrase", request.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Large_request_leaves_nothing_behind_as_its_buffer_grows()
    {
        using var buffer = new WipedBuffer();
        byte[] bytes = RandomNumberGenerator.GetBytes(100_000);
        ReadOnlyMemory<byte> first = default;
        for (int at = 0; at < bytes.Length; at += 1000)
        {
            bytes.AsSpan(at, 1000).CopyTo(buffer.GetSpan(1000));
            buffer.Advance(1000);
            first = at == 0 ? buffer.Written : first;
        }

        Assert.Equal(bytes, buffer.Written.ToArray());
        Assert.All(first.ToArray(), b => Assert.Equal(0, b));
    }

    private static string Text(SecretStore store, string id) => Encoding.UTF8.GetString(store.Get(id).Span);

    private static SecretStore Read(params string[] words) =>
        SecretArguments.Read(CommandLineReader.Parse<InfoArguments>(["disk.luks", .. words]), mayAsk: false);
}
