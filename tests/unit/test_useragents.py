"""User agents of 2024 to 2026, and what becomes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters.useragents import CONTROL_CHARACTERS, LONGEST_READ, Agent, agent

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1_1 like Mac OS X) {SAFARI}"

BROWSERS = [
    (
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/131.0.0.0 Safari/537.36",
        "Chrome",
        "Windows",
        "desktop",
    ),
    (
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
        "Edge",
        "Windows",
        "desktop",
    ),
    (
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/130.0.0.0 Safari/537.36 OPR/115.0.0.0",
        "Opera",
        "Windows",
        "desktop",
    ),
    ("Mozilla/5.0 (Windows NT 6.1; Trident/7.0; Tablet PC 2.0; rv:11.0) like Gecko", "IE", "Windows", "desktop"),
    (
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {SAFARI} Version/18.1 Safari/605.1.15",
        "Safari",
        "Mac OS X",
        "desktop",
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:133.0) Gecko/20100101 Firefox/133.0",
        "Firefox",
        "Mac OS X",
        "desktop",
    ),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", "Firefox", "Linux", "desktop"),
    ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", "Firefox", "Ubuntu", "desktop"),
    ("Mozilla/5.0 (X11; FreeBSD amd64; rv:130.0) Gecko/20100101 Firefox/130.0", "Firefox", "FreeBSD", "desktop"),
    (
        f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/131.0.0.0 Safari/537.36",
        "Chrome",
        "Chrome OS",
        "desktop",
    ),
    (f"{IPHONE} Version/18.1.1 Mobile/15E148 Safari/604.1", "Mobile Safari", "iOS", "mobile"),
    (f"{IPHONE} Version/26.0 Mobile/15E148 Safari/604.1", "Mobile Safari", "iOS", "mobile"),
    (f"{IPHONE} CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1", "Chrome Mobile iOS", "iOS", "mobile"),
    (
        f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/131.0.0.0 Mobile Safari/537.36",
        "Chrome Mobile",
        "Android",
        "mobile",
    ),
    (
        f"Mozilla/5.0 (Linux; Android 14; SM-S921B) {WEBKIT} SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36",
        "Samsung Internet",
        "Android",
        "mobile",
    ),
    (
        f"Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) {WEBKIT} Chrome/131.0.0.0 Mobile Safari/537.36",
        "Chrome Mobile",
        "Android",
        "mobile",
    ),
    ("Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0", "Firefox Mobile", "Android", "mobile"),
    ("Mozilla/5.0 (KaiOS; Mobile; rv:84.0) Gecko/84.0 Firefox/84.0 KAIOS/3.1", "Firefox Mobile", "KaiOS", "mobile"),
    ("Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/AP2A.240805.005)", "Android", "Android", "mobile"),
    (
        f"Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) {SAFARI} Version/18.1 Mobile/15E148 Safari/604.1",
        "Mobile Safari",
        "iOS",
        "tablet",
    ),
    (
        f"Mozilla/5.0 (Linux; Android 13; SM-X710) {WEBKIT} Chrome/131.0.0.0 Safari/537.36",
        "Chrome",
        "Android",
        "tablet",
    ),
    ("Mozilla/5.0 (Android 14; Tablet; rv:133.0) Gecko/133.0 Firefox/133.0", "Firefox Mobile", "Android", "tablet"),
    (
        f"Mozilla/5.0 (Linux; Android 13; KFTRWI) {WEBKIT} Silk/120.2.1 like Chrome/120.0.6099.230 Safari/537.36",
        "Amazon Silk",
        "Android",
        "tablet",
    ),
    (
        f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Silk/120.2.1 like Chrome/120.0.6099.230 Safari/537.36",
        "Amazon Silk",
        "Linux",
        "desktop",
    ),
    (
        f"Mozilla/5.0 (Linux; Android 9; AFTS) {WEBKIT} Silk/108.4.6 like Chrome/108.0.5359.220 Safari/537.36",
        "Amazon Silk",
        "Android",
        "tv",
    ),
    (
        f"Mozilla/5.0 (Linux; Android 9; BRAVIA 4K UR2) {WEBKIT} Chrome/131.0.0.0 Safari/537.36",
        "Chrome",
        "Android",
        "tv",
    ),
    (
        f"Mozilla/5.0 (PlayStation; PlayStation 5/5.10) {SAFARI} Version/15.4 Safari/605.1.15",
        "Safari",
        "",
        "console",
    ),
]

BOTS = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) {WEBKIT} Chrome/131.0.6778.69 Mobile Safari/537.36 "
    "(compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm) "
    "Chrome/116.0.1938.76 Safari/537.36",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Perplexity-User/1.0; "
    "+https://perplexity.ai/perplexity-user)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
    "Mozilla/5.0 (compatible; archive.org_bot +http://archive.org/details/archive.org_bot)",
    f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} HeadlessChrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "TelegramBot (like TwitterBot)",
    "CCBot/2.0 (https://commoncrawl.org/faq/)",
    "Scrapy/2.12.0 (+https://scrapy.org)",
    "ELB-HealthChecker/2.0",
    "kube-probe/1.31",
    "GoogleOther",
    "my-crawler/0.1 (curl/8.11.0)",
]

LIBRARIES = [
    ("curl/8.11.0", "curl"),
    ("Wget/1.24.5", "Wget"),
    ("python-requests/2.32.3", "Python Requests"),
    ("Python/3.12 aiohttp/3.11.7", "Python aiohttp"),
    ("Python-urllib/3.12", "Python-urllib"),
    ("Go-http-client/2.0", "Go-http-client"),
    ("Java/21.0.5", "Java"),
    ("Apache-HttpClient/5.4 (Java/21.0.5)", "Apache-HttpClient"),
    ("okhttp/4.12.0", "okhttp"),
    ("axios/1.7.7", "axios"),
    ("HTTPie/3.2.4", "HTTPie"),
    ("PostmanRuntime/7.42.0", "PostmanRuntime"),
    ("wrk/4.2.0", ""),
    ("node", ""),
]


@pytest.mark.parametrize(("header", "browser", "os", "device"), BROWSERS)
def test_a_browser_is_told_with_system_and_device(header, browser, os, device):
    assert agent(header.encode()) == Agent(browser, os, device, bot=False)


@pytest.mark.parametrize("header", BOTS)
def test_a_bot_is_a_bot_and_sits_at_no_device(header):
    found = agent(header.encode())
    assert found.bot
    assert found.device == ""


@pytest.mark.parametrize(("header", "browser"), LIBRARIES)
def test_a_library_is_no_bot_and_has_no_device(header, browser):
    assert agent(header.encode()) == Agent(browser, "", "", bot=False)


@pytest.mark.parametrize("header", [b"", b" ", b"nonsense", b"\xff\xfe", b"Mozilla/5.0"])
def test_what_says_nothing_is_unknown(header):
    assert agent(header) == Agent()


def test_a_name_taken_from_the_header_is_bounded():
    assert 0 < len(agent(b"A" * 400 + b"/1 CFNetwork/1568.200.51 Darwin/24.1.0").browser) <= 64


@given(st.binary(max_size=LONGEST_READ) | st.text(max_size=100).map(str.encode))
def test_nothing_that_is_sent_raises_or_puts_control_characters_into_a_value(header):
    found = agent(header)
    assert not CONTROL_CHARACTERS.search("".join((found.browser, found.os, found.device)))
    assert agent.__wrapped__(header) == found
